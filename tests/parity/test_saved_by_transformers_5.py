"""A fine-tune saved by transformers 5 is loaded end to end, from its own files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from odd_texts import odd_texts
from PIL import Image
from tolerances import FLOAT64, relative_error

transformers = pytest.importorskip("transformers")

from lifting import lifted
from random_models import in_float64
from their_taps import their_logits

from numpy_paligemma import load_hf_model
from numpy_paligemma.inputs.tokenizer import Tokenizer

pytestmark = pytest.mark.parity

MINIATURE = Path(__file__).parents[2] / "weights" / "miniature"
PAPER = MINIATURE.parent / "samples" / "paper.jpg"
PROMPTS = ["caption en", "detect red circle ; blue star"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save the miniature as a fine-tune would be: model and processor, nothing else."""
    folder = tmp_path_factory.mktemp("saved")
    load = transformers.PaliGemmaForConditionalGeneration.from_pretrained
    load(MINIATURE, dtype="float32").save_pretrained(folder)
    theirs(MINIATURE).save_pretrained(folder)
    return folder


def theirs(folder: Path) -> Any:
    """Load transformers' processor, the one that works with Pillow."""
    return transformers.AutoProcessor.from_pretrained(folder, backend="pil")


def test_the_folder_has_the_files_of_transformers_5_alone(saved: Path) -> None:
    assert {path.name for path in saved.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_a_thousand_texts_give_the_ids_of_the_miniature_and_of_transformers(
    saved: Path,
) -> None:
    ours, model = load_hf_model(saved, device="cpu")[1].tokenizer, miniature()
    other = transformers.AutoTokenizer.from_pretrained(saved)
    for text in odd_texts(1000, seed=5):
        ids = model.encode(text)
        assert ours.encode(text) == ids, text
        assert other(text, add_special_tokens=False)["input_ids"] == ids, text
        assert ours.decode(ids) == model.decode(ids)


def miniature() -> Tokenizer:
    return Tokenizer(MINIATURE / "tokenizer.model")


def test_inputs_logits_and_answers_are_those_of_transformers_and_the_miniature(
    saved: Path,
) -> None:
    with Image.open(PAPER) as picture:
        pictures = [picture.convert("RGB"), picture.convert("RGB").rotate(90)]
    seen = theirs(saved)(
        text=["<image>" + prompt for prompt in PROMPTS],
        images=pictures,
        padding=True,
        return_tensors="np",
    )
    model, processor = load_hf_model(saved, dtype="float64", device="cpu")
    first, first_processor = load_hf_model("miniature", dtype="float64", device="cpu")
    inputs = processor(PROMPTS, pictures)
    for name, array in inputs.items():
        np.testing.assert_array_equal(array, seen[name])
        np.testing.assert_array_equal(
            array, first_processor(PROMPTS, pictures)[name], err_msg=name
        )
    logits = model.logits(**inputs)
    np.testing.assert_array_equal(logits, first.logits(**inputs))
    load = transformers.PaliGemmaForConditionalGeneration.from_pretrained
    reference = in_float64(load(saved, attn_implementation="eager", dtype="float32"))
    types = {"token_type_ids": np.zeros_like(inputs["input_ids"])}
    with lifted():
        truth = their_logits(reference, {**inputs, **types})
    real = inputs["attention_mask"] == 1
    assert relative_error(logits[real], truth[real]) <= FLOAT64
