"""The shipped miniature is the one that was measured, and what was measured is enough.

`evaluation.json` is written by ``python -m weights.training.evaluate weights/miniature
--transformers``: fresh pictures, greedy, the shipped bfloat16 files, our own line.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from numpy_paligemma import answer
from numpy_paligemma.answers.paste import paste_mask
from numpy_paligemma.answers.segmentation import decode_masks
from numpy_paligemma.checkpoints.mask_decoder import load_mask_decoder

WEIGHTS = Path(__file__).parents[1] / "weights"
FOLDER = WEIGHTS / "miniature"
# share of right answers, or mean IoU, that no retraining may fall below
FLOORS = {
    "plain": {
        "caption en": 0.98,
        "ocr": 0.975,
        "colour": 0.99,
        "count": 0.99,
        "IoU": 0.93,
    },
    "elsewhere": {"words": 0.97, "IoU": 0.88},
    "wide": {
        "caption en": 0.96,
        "colour": 0.98,
        "count": 0.97,
        "count kind": 0.97,
        "ocr": 0.94,
        "yes/no": 0.98,
        "IoU": 0.915,
    },
    "plain masks": {"segment: mask IoU": 0.85, "segment kind: mask IoU": 0.85},
    "wide masks": {"segment: mask IoU": 0.80, "segment kind: mask IoU": 0.80},
}
# in float32 two tokens may be likeliest to the last digit: 2 answers of 15,321 once
TIES = 1 / 2000
SETS = ["plain", "wide", "elsewhere", "samples", "plain masks", "wide masks"]


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    text = (FOLDER / "evaluation.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def test_these_are_the_weights_that_were_measured(report: dict[str, Any]) -> None:
    data = (FOLDER / "model.safetensors").read_bytes()
    assert report["sha256"] == hashlib.sha256(data).hexdigest()
    assert len(data) < 6_000_000


@pytest.mark.parametrize("pictures", FLOORS)
def test_the_miniature_is_above_its_floors(
    report: dict[str, Any], pictures: str
) -> None:
    floors = FLOORS[pictures]
    shares = {task: report[pictures][task]["share"] for task in floors}
    assert {t: s for t, s in shares.items() if s < floors[t]} == {}


@pytest.mark.parametrize("pictures", SETS)
def test_transformers_says_the_same(report: dict[str, Any], pictures: str) -> None:
    assert report[pictures]["equal to transformers"]["share"] >= 1 - TIES


def test_the_sample_picture_is_answered_as_it_was_then(report: dict[str, Any]) -> None:
    then = report["sample answers"]["paper.jpg"]["answers"]
    for prompt, said in then.items():
        assert answer(WEIGHTS / "samples" / "paper.jpg", prompt, temperature=0) == said


def test_the_mask_decoder_is_small_and_whole() -> None:
    file = FOLDER / "vae-oid.npz"
    assert file.stat().st_size < 6_000_000
    assert load_mask_decoder(file).codebook.shape == (128, 512)


def test_segment_finds_the_red_paper_and_not_its_box() -> None:
    picture = WEIGHTS / "samples" / "paper.jpg"
    said = answer(picture, "segment red circle", temperature=0)
    assert re.fullmatch(r"(<loc\d{4}>){4}(<seg\d{3}>){16} red circle", said)
    top, left, bottom, right, *codes = map(int, re.findall(r"\d+", said))
    w = load_mask_decoder(FOLDER / "vae-oid.npz")
    with Image.open(picture) as image:
        r, g, b = np.asarray(image, float).transpose(2, 0, 1)
        scale = np.array([image.width, image.height] * 2) / 1023
        box = tuple(np.array([left, top, right, bottom]) * scale)
        inside = paste_mask(decode_masks(np.array([codes]), w)[0], box, image.size)
    red = (r > 120) & (g < 0.5 * r) & (b < 0.5 * r)
    assert (red & inside).sum() / (red | inside).sum() > 0.9
