"""A whole checkpoint, by ours and by transformers: every tap, and what they answer.

    pytest -m weights --model google/paligemma-3b-pt-224 [--model-dtype bfloat16]

For whoever holds the licence. A folder will do for the name, and so will `miniature`.
The end of the output is a report to paste into an issue.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lockstep import errors_in_lockstep
from PIL import Image
from report import REPORT, Answer, Report, dtype_of
from tolerances import FULL_SIZE

transformers = pytest.importorskip("transformers")

import torch
from parity.their_taps import hand_their_taps_to

from numpy_paligemma import load_hf_model
from numpy_paligemma.checkpoints.hub import checkpoint_folder
from numpy_paligemma.inputs.processing import PaliGemmaProcessor
from numpy_paligemma.paligemma import PaliGemma

pytestmark = pytest.mark.weights

SAMPLES = Path(__file__).parents[2] / "weights" / "samples"
QUESTIONS = (
    ("paper.jpg", "caption en"),
    ("chalkboard.jpg", "ocr"),
    ("crayon.jpg", "answer en how many shapes are there?"),
    ("vector.png", "detect star"),
    ("watercolour.jpg", "caption de"),
)
NEW_TOKENS = 20


@dataclass(frozen=True)
class Pair:
    """The same checkpoint, opened twice."""

    ours: PaliGemma
    processor: PaliGemmaProcessor
    theirs: Any
    report: Report


@pytest.fixture(scope="module")
def pair(request: pytest.FixtureRequest) -> Pair:
    name = request.config.getoption("--model")
    if name is None:
        pytest.skip("no checkpoint: say --model NAME (a hub name, a folder, miniature)")
    dtype = request.config.getoption("--model-dtype")
    folder = checkpoint_folder(name)
    held = dtype_of(folder)  # theirs is not rounded, so ours is not either
    ours, processor = load_hf_model(folder, dtype=held)
    load = transformers.PaliGemmaForConditionalGeneration.from_pretrained
    theirs = load(folder, dtype=dtype, attn_implementation="eager").eval()
    report = Report(name, folder, dtype, held, FULL_SIZE[dtype])
    request.config.stash[REPORT] = report
    return Pair(ours, processor, theirs, report)


@pytest.mark.parametrize(("picture", "prompt"), QUESTIONS)
def test_every_tap_and_the_answer_are_transformers(
    pair: Pair, picture: str, prompt: str
) -> None:
    start = time.perf_counter()
    inputs = dict(pair.processor([prompt], [SAMPLES / picture]))
    errors = errors_in_lockstep(
        lambda tap: pair.ours.logits(**inputs, tap=tap),
        lambda kept: hand_their_taps_to(
            kept, pair.theirs, with_types(inputs), pair.ours.config
        ),
        inputs["attention_mask"],
    )
    ours, theirs = answers(pair, inputs)
    seconds = time.perf_counter() - start
    texts = map(pair.processor.tokenizer.decode, (ours, theirs))
    pair.report.answers.append(Answer(picture, prompt, errors, *texts, seconds))
    tolerance = pair.report.tolerance
    assert {tap: e for tap, e in errors.items() if not e <= tolerance} == {}
    if pair.report.dtype == "float32":  # in bfloat16 near ties fall either way
        np.testing.assert_array_equal(ours, theirs)


def test_their_processor_gives_the_same_arrays(pair: Pair) -> None:
    folder, name = pair.report.folder, pair.report.name
    source = folder if Path(name).is_dir() or name == "miniature" else name
    if source == folder and not (folder / "tokenizer.json").is_file():
        pair.report.processor = f"not compared: {folder} has no tokenizer.json"
        pytest.skip(pair.report.processor)
    theirs = transformers.AutoProcessor.from_pretrained(source, use_fast=False)
    for picture, prompt in QUESTIONS:
        ours = pair.processor([prompt], [SAMPLES / picture])
        with Image.open(SAMPLES / picture) as image:
            expected = theirs(
                text=["<image>" + prompt], images=[image], return_tensors="np"
            )
        np.testing.assert_array_equal(ours["input_ids"], expected["input_ids"])
        np.testing.assert_array_equal(ours["pixel_values"], expected["pixel_values"])
    pair.report.processor = "equal on all five: ids and pixels"


def with_types(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Say that all is prefix: transformers makes everything causal unless told."""
    return inputs | {"token_type_ids": np.zeros_like(inputs["input_ids"])}


def answers(pair: Pair, inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Answer greedily by both: two rows of new ids."""
    options = {"max_new_tokens": NEW_TOKENS, "do_sample": False}
    ours = pair.ours.generate(**inputs, **options)[0]
    tensors = {k: torch.from_numpy(x) for k, x in with_types(inputs).items()}
    tensors["pixel_values"] = tensors["pixel_values"].to(pair.theirs.dtype)
    theirs = pair.theirs.generate(**tensors, **options)[0].numpy()
    return ours, theirs[inputs["input_ids"].shape[1] :]
