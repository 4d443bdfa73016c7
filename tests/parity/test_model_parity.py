"""Our whole line against transformers, on random models that it made and we loaded."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from comparison import real_rows, tap_errors, widened
from tolerances import FLOAT32_LOGITS, FLOAT32_TAPS, FLOAT64, relative_error

pytest.importorskip("transformers")

import torch
from random_models import (
    FIRST_WORD,
    GEMMA_2_MODELS,
    MODELS,
    NEWLINE,
    PAD,
    Row,
    batch,
)
from their_taps import their_logits

from numpy_paligemma.arrays import matrix
from numpy_paligemma.checkpoints.taps import every_tap
from numpy_paligemma.model.pipeline import (
    decode_step,
    empty_caches,
    encode_images,
    prefill,
)
from numpy_paligemma.model.tap import recorder
from numpy_paligemma.paligemma import PaliGemma

pytestmark = pytest.mark.parity

FOUR_PROMPTS = (Row(6), Row(2), Row(9), Row(4))
NEW_TOKENS = 40
NO_END = 10_000  # an end token that no model has
NO_IMAGE_ID = 17  # below this no model has its <image> id


@pytest.fixture(params=MODELS + GEMMA_2_MODELS, ids=lambda m: m.name)
def pair(request: pytest.FixtureRequest, make_pair: Any) -> Any:
    return make_pair(request.param)


def test_every_tap_is_equal_in_float64(pair: Any) -> None:
    ours = pair.ours("float64")
    tap, found = recorder()
    ours.logits(**pair.inputs, tap=tap)
    assert list(found) == list(every_tap(ours.config))
    assert found.keys() == pair.truth.keys()
    errors = tap_errors(found, pair.truth, pair.inputs["attention_mask"])
    assert {tap: e for tap, e in errors.items() if not e <= FLOAT64} == {}


def test_float32_rounds_no_more_than_twice_as_theirs(pair: Any) -> None:
    mask = pair.inputs["attention_mask"]
    truth = pair.truth["logits"][mask == 1]
    ours = relative_error(pair.ours("float32").logits(**pair.inputs)[mask == 1], truth)
    theirs = relative_error(their_logits(pair.theirs, pair.inputs)[mask == 1], truth)
    assert ours <= max(2 * theirs, FLOAT32_LOGITS)


def test_every_tap_is_close_in_float32(pair: Any) -> None:
    tap, found = recorder()
    pair.ours("float32").logits(**pair.inputs, tap=tap)
    assert {x.dtype for x in found.values()} == {np.dtype("f4"), np.dtype(bool)}
    errors = tap_errors(found, pair.truth, pair.inputs["attention_mask"])
    assert {tap: e for tap, e in errors.items() if not e <= FLOAT32_TAPS} == {}


def test_greedy_ids_are_equal_alone_and_in_a_batch_of_four(pair: Any) -> None:
    together = prompts(pair)
    ids = assert_equal_greedy_ids(pair, together)
    for row in range(len(FOUR_PROMPTS)):
        alone = assert_equal_greedy_ids(pair, one_row(together, row))
        np.testing.assert_array_equal(alone, ids[row : row + 1])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8"])
def test_greedy_ids_are_those_of_the_same_weights_in_float32(
    pair: Any, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrix, "SMALL", 0)  # not widened whole, as large ones are not
    held, asked = pair.ours(dtype), prompts(pair)
    found, expected = (
        model.generate(**asked, **greedy(NO_END)) for model in (held, widened(held))
    )
    np.testing.assert_array_equal(found, expected)


def test_a_row_that_ends_is_padded_while_the_others_go_on(pair: Any) -> None:
    together = prompts(pair)
    free = assert_equal_greedy_ids(pair, together)
    end = int(free[0, 3])  # so row 0 ends early, the others perhaps never
    ids = assert_equal_greedy_ids(pair, together, eos_token_id=end)
    stop = int(np.argmax(free[0] == end))
    assert ids[0, stop] == end
    assert np.all(ids[0, stop + 1 :] == PAD)


def test_a_cache_changes_nothing(pair: Any) -> None:
    ours, inputs = pair.ours("float64"), prompts(pair)
    ids, real = inputs["input_ids"], inputs["attention_mask"]
    answer = np.random.default_rng(0).integers(FIRST_WORD, NO_IMAGE_ID, (4, 7))
    every = {
        "input_ids": np.concatenate([ids, answer], axis=1),
        "pixel_values": inputs["pixel_values"].astype(np.float64),
        "attention_mask": np.concatenate([real, 1 + 0 * answer], axis=1),
        "token_type_ids": np.concatenate([0 * ids, 1 + 0 * answer], axis=1),
    }
    steps = np.stack(list(logits_step_by_step(ours, every, ids.shape[1])), axis=1)
    whole = ours.logits(**every)[:, ids.shape[1] - 1 :]
    assert relative_error(steps, whole) <= FLOAT64


def test_a_row_of_a_batch_is_the_prompt_alone(pair: Any) -> None:
    ours, inputs = pair.ours("float64"), prompts(pair)
    together = ours.logits(**inputs)
    for row in range(len(FOUR_PROMPTS)):
        alone = one_row(inputs, row)
        real = real_rows("logits", together, inputs["attention_mask"] * is_row(row))
        assert relative_error(real, ours.logits(**alone)[0]) <= FLOAT64


def prompts(pair: Any) -> dict[str, np.ndarray]:
    """Draw four left-padded prompts without answers."""
    inputs = batch(pair.model, FOUR_PROMPTS)
    del inputs["token_type_ids"]
    assert np.all(inputs["input_ids"][:, -1] == NEWLINE)
    return inputs


def logits_step_by_step(
    ours: PaliGemma, every: dict[str, np.ndarray], prefix: int
) -> Iterator[np.ndarray]:
    """Read the prefix at once and the answers word by word: logits (B, V) of each."""
    w, c = ours.weights, ours.config
    ids, real = every["input_ids"], every["attention_mask"]
    caches = empty_caches(*ids.shape, w, c)
    soft = encode_images(every["pixel_values"], w, c)
    start = (ids[:, :prefix], soft, real[:, :prefix])
    yield prefill(*start, w, c, caches)
    for t in range(prefix, ids.shape[1]):
        yield decode_step(ids[:, t], real[:, : t + 1], w, c, caches)


def is_row(row: int) -> np.ndarray:
    """Point at one row of the four: (4, 1)."""
    return np.arange(len(FOUR_PROMPTS))[:, None] == row


def one_row(inputs: dict[str, np.ndarray], row: int) -> dict[str, np.ndarray]:
    """Take one prompt out of the batch, its padding cut off."""
    real = inputs["attention_mask"][row] == 1
    alone = {name: x[row : row + 1] for name, x in inputs.items()}
    for name in ("input_ids", "attention_mask"):
        alone[name] = alone[name][:, real]
    return alone


def greedy(eos_token_id: int) -> dict[str, Any]:
    """Ask for the likeliest tokens."""
    return {
        "max_new_tokens": NEW_TOKENS,
        "do_sample": False,
        "eos_token_id": eos_token_id,
    }


def assert_equal_greedy_ids(
    pair: Any, inputs: dict[str, np.ndarray], eos_token_id: int = NO_END
) -> np.ndarray:
    """Generate by both, in float32 as users do; the new ids."""
    found = pair.ours("float32").generate(**inputs, **greedy(eos_token_id))
    tensors = {name: torch.from_numpy(x) for name, x in inputs.items()}
    tensors["token_type_ids"] = torch.zeros_like(tensors["input_ids"])
    # their sliding cache keeps [-window + 1:], which for a window of one is everything
    cached = getattr(pair.theirs.config.text_config, "sliding_window", None) != 1
    options = greedy(eos_token_id) | {"use_cache": cached}
    expected = pair.theirs.generate(**tensors, **options)
    new = expected[:, inputs["input_ids"].shape[1] :].numpy()
    np.testing.assert_array_equal(found, new)
    return found
