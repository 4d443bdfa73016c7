"""Our whole line against keras-hub: the model stated a second time, by other people.

Its models are random, its variables become a checkpoint that our own loader opens. What
keras-hub does otherwise is at the end, each with the lines of keras-hub 0.32.0.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from comparison import tap_errors
from tolerances import FLOAT32_TAPS, FLOAT64, relative_error

os.environ.setdefault("KERAS_BACKEND", "torch")
keras_hub = pytest.importorskip("keras_hub")

from keras_lifting import LIFTS, lifted
from keras_models import (
    KerasModel,
    batch,
    for_keras,
    keras_backbone,
    write_checkpoint,
)
from keras_taps import keras_taps

from numpy_paligemma.checkpoints.config import read_config
from numpy_paligemma.checkpoints.load import load_weights
from numpy_paligemma.checkpoints.taps import every_tap
from numpy_paligemma.model.tap import recorder
from numpy_paligemma.paligemma import PaliGemma

pytestmark = [
    pytest.mark.parity,
    # Keras hands NumPy its tensors as NumPy 1 took them
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

# fmt: off
GEMMA = (
    KerasModel("one-kv-head", (12, 4), (20, 2, 3, 28), (24, 4, 1, 10, 3, 34),
               ((5, 0), (3, 0), (8, 4))),
    KerasModel("two-kv-heads", (12, 6), (18, 3, 2, 26), (13, 4, 2, 6, 3, 22),
               ((7, 2), (2, 0))),
    KerasModel("as-many-kv-heads", (16, 4), (21, 7, 2, 30), (20, 3, 3, 8, 2, 38),
               ((6, 0), (9, 1))),
    KerasModel("three-queries-a-kv-head", (10, 2), (15, 5, 1, 14), (22, 6, 2, 4, 2, 18),
               ((4, 0), (4, 0), (1, 5))),
    KerasModel("pixels-no-patch-sees", (15, 4), (27, 3, 3, 32), (28, 2, 1, 12, 2, 20),
               ((5, 3), (11, 0))),
    KerasModel("wide-heads", (21, 7), (33, 1, 1, 40), (10, 2, 2, 32, 4, 15),
               ((12, 6), (5, 1), (9, 0))),
)
# windows as long as the longest row, and longer: they hide nothing
GEMMA_2 = (
    KerasModel("caps-that-bend", (12, 4), (20, 2, 2, 28), (24, 4, 2, 10, 4, 34),
               ((5, 3), (3, 0), (2, 4)), gemma_2=(3, 5, 18)),
    KerasModel("caps-as-published", (9, 3), (27, 3, 2, 13), (30, 6, 2, 14, 3, 16),
               ((1, 9), (6, 0)), gemma_2=(50, 30, 4096)),
    KerasModel("one-head-a-query", (10, 5), (14, 7, 2, 24), (19, 3, 3, 8, 2, 27),
               ((8, 0), (5, 4)), gemma_2=(20, 4, 64)),
)
WINDOW = KerasModel("a-window", (12, 4), (20, 2, 2, 28), (24, 4, 2, 10, 4, 34),
                    ((5, 6), (9, 0)), gemma_2=(3, 5, 4))
# fmt: on
MODELS = GEMMA + GEMMA_2
UNLIFTED = 1e-9  # what a missing lift leaves; measured 3e-8 to 9e-7, with all 3e-15
NEW_TOKENS = 16
each_model = pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)


@each_model
def test_every_tap_is_equal_in_float64(model: KerasModel, tmp_path: Path) -> None:
    inputs = batch(model)
    with lifted():
        backbone = keras_backbone(model, "float64")
        theirs = keras_taps(model, backbone, inputs)
    ours = our_model(write_checkpoint(tmp_path, model, backbone), "float64")
    found = our_taps(ours, inputs)
    assert set(every_tap(ours.config)) - theirs.keys() == unseen(model)
    assert off_by_more_than(FLOAT64, found, theirs, inputs) == {}


@each_model
def test_every_tap_is_close_in_float32(model: KerasModel, tmp_path: Path) -> None:
    inputs = batch(model)
    backbone = keras_backbone(model, "float32")
    theirs = keras_taps(model, backbone, inputs)
    ours = our_model(write_checkpoint(tmp_path, model, backbone), "float32")
    assert off_by_more_than(FLOAT32_TAPS, our_taps(ours, inputs), theirs, inputs) == {}


@pytest.mark.parametrize("lift", LIFTS)
def test_float64_needs_each_lift(lift: str) -> None:
    real = batch(GEMMA[0])["attention_mask"] == 1
    truth = their_logits(GEMMA[0], None)[real]
    assert relative_error(their_logits(GEMMA[0], lift)[real], truth) > UNLIFTED


# `generate` takes int((side / patch)²) for the number of patches (pali_gemma_vit.py 520)
@pytest.mark.parametrize(
    "model",
    [m for m in MODELS if not m.picture[0] % m.picture[1]],
    ids=lambda m: m.name,
)
def test_greedy_ids_are_equal(model: KerasModel, tmp_path: Path) -> None:
    inputs = batch(model)
    backbone = keras_backbone(model, "float32")
    ours = our_model(write_checkpoint(tmp_path, model, backbone), "float32")
    alone = first_prompt(inputs)
    found = ours.generate(
        **alone, max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=-1
    )
    np.testing.assert_array_equal(found, their_ids(model, backbone, alone))


def test_departure_their_window_cuts_the_prefix_and_looks_ahead(tmp_path: Path) -> None:
    """keras-hub hides from a prefix, too, what is a window away, on either side.

    transformers windows answers alone (gemma_attention.py 212-236). Given their mask,
    which differs in the prefix' rows, ours equals theirs.
    """
    inputs = batch(WINDOW)
    with lifted():
        backbone = keras_backbone(WINDOW, "float64")
        theirs = keras_taps(WINDOW, backbone, inputs)
    ours = our_model(write_checkpoint(tmp_path, WINDOW, backbone), "float64")
    name = "fusion/window_mask"
    own, their = our_taps(ours, inputs)[name], theirs[name]
    rows = inputs["attention_mask"] == 1
    answered = inputs["token_type_ids"] == 1
    assert np.array_equal(own[:, 0][answered], their[:, 0][answered])
    assert not np.array_equal(own[:, 0][rows], their[:, 0][rows])
    found = our_taps(ours, inputs, replaced={name: their})
    assert off_by_more_than(FLOAT64, found, theirs, inputs) == {}


def test_departure_two_of_their_options_do_not_reach_the_blocks() -> None:
    """`query_head_dim_normalize` and `layer_norm_epsilon` stop on the way.

    The first is given on as True always (gemma_decoder_block.py 68), so that the 28B
    model, which divides queries by √144, is divided by √128; the second reaches the
    last norm alone (pali_gemma_backbone.py 183-204).
    """
    model, inputs = GEMMA[0], batch(GEMMA[0])
    options = {"query_head_dim_normalize": False, "layer_norm_epsilon": 1e-2}
    plain, changed = (
        keras_taps(model, keras_backbone(model, "float32", **given), inputs)
        for given in ({}, options)
    )
    same = {tap for tap, x in plain.items() if np.array_equal(x, changed[tap])}
    assert plain.keys() - same == {"decoder/out", "logits"}


def test_departure_a_longer_prompt_is_answered_otherwise_in_a_batch() -> None:
    """keras-hub reads what a prompt has more than the shortest once more, causally.

    `generate_step` starts all rows at the shortest prompt's end, and a step's mask is
    causal alone (pali_gemma_causal_lm.py 252-271, pali_gemma_decoder_block.py 121-124).
    Ours gives a row of a batch the answer that it gets alone.
    """
    rows = ((8, 0), (1, 0))
    model = KerasModel("batch", (12, 4), (20, 2, 2, 28), (24, 4, 2, 10, 3, 34), rows)
    backbone, inputs = keras_backbone(model, "float32"), batch(model)
    together = their_ids(model, backbone, inputs, new=4)
    alone = their_ids(model, backbone, first_prompt(inputs), new=4)
    assert not np.array_equal(together[:1], alone)


def our_model(folder: Path, dtype: str) -> PaliGemma:
    """Open a folder by our own loader."""
    config = read_config(folder)
    return PaliGemma(config, load_weights(folder, config, dtype))


def our_taps(
    ours: PaliGemma,
    inputs: dict[str, np.ndarray],
    replaced: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> dict[str, np.ndarray]:
    """Record every tap of one forward pass, some of them replaced."""
    tap, found = recorder()
    ours.logits(**inputs, tap=lambda name, x: tap(name, replaced.get(name, x)))
    return found


def unseen(model: KerasModel) -> set[str]:
    """Name the taps that arise inside a layer of theirs."""
    scores = {f"vision/block{i:02}/attention/scores" for i in range(model.vision[2])}
    return scores | {"decoder/embed"}


def off_by_more_than(
    tolerance: float,
    found: dict[str, np.ndarray],
    theirs: dict[str, np.ndarray],
    inputs: dict[str, np.ndarray],
) -> dict[str, float]:
    """Compare what they show, scores where the mask lets them through."""
    seen = theirs["fusion/mask"]  # padded keys stand at other positions
    pairs = {
        tap: (found[tap] * seen, x * seen)
        if tap.endswith("scores")
        else (found[tap], x)
        for tap, x in theirs.items()
    }
    errors = tap_errors(
        {tap: a for tap, (a, _) in pairs.items()},
        {tap: b for tap, (_, b) in pairs.items()},
        inputs["attention_mask"],
    )
    return {tap: e for tap, e in errors.items() if not e <= tolerance}


def their_logits(model: KerasModel, without: str | None) -> np.ndarray:
    """Work out their logits in float64, every lift on but one."""
    with lifted(without=without):
        backbone = keras_backbone(model, "float64")
        return keras_taps(model, backbone, batch(model))["logits"]


def first_prompt(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Take the first row alone, its answer and its padding cut off."""
    asked = inputs["attention_mask"][:1] * (1 - inputs["token_type_ids"][:1])
    length = int(asked.sum())
    return {
        "input_ids": inputs["input_ids"][:1, :length],
        "pixel_values": inputs["pixel_values"][:1],
        "attention_mask": asked[:, :length],
    }


def their_ids(
    model: KerasModel,
    backbone: Any,
    inputs: dict[str, np.ndarray],
    new: int = NEW_TOKENS,
) -> np.ndarray:
    """Generate greedily by theirs: the new ids, (B, new)."""
    types = np.zeros_like(inputs["input_ids"])
    asked = for_keras(model, inputs | {"token_type_ids": types})
    for name in ("token_ids", "padding_mask"):
        asked[name] = np.pad(asked[name], ((0, 0), (0, new)))
    del asked["response_mask"]
    causal_lm = keras_hub.models.PaliGemmaCausalLM(None, backbone)
    ids = np.asarray(causal_lm.generate(asked, stop_token_ids=None)["token_ids"])
    places = asked["padding_mask"].sum(1)[:, None] + np.arange(new)  # (B, new)
    return np.take_along_axis(ids, places, axis=1)
