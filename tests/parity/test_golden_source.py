"""The golden files are what transformers gets from them, here and now."""

import numpy as np
import pytest
from comparison import tap_errors
from golden_line import GOLDEN, NAMES, load_golden
from tolerances import FLOAT64

transformers = pytest.importorskip("transformers")

from lifting import lifted
from random_models import in_float64
from their_taps import their_taps

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("name", NAMES)
def test_lifted_transformers_gives_the_golden_taps(name: str) -> None:
    golden = load_golden(name)
    inputs = {k: x for k, x in golden.inputs.items() if k != "pictures"}
    inputs["pixel_values"] = golden.expected["pixels"]
    load = transformers.PaliGemmaForConditionalGeneration.from_pretrained
    theirs = load(GOLDEN / name, attn_implementation="eager", dtype="float32")
    with lifted():
        taps = their_taps(in_float64(theirs), inputs, golden.model.config)
    mask = np.ones_like(inputs["attention_mask"])  # padded rows as well
    errors = tap_errors(taps, {k: golden.expected[k] for k in taps}, mask)
    assert {tap: e for tap, e in errors.items() if not e <= FLOAT64} == {}
