"""Where the pictures go, who sees whom, and where counting starts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tolerances import ORACLE, relative_error

from numpy_paligemma.model.fusion import (
    embed_text,
    fuse,
    positions_of,
    prefix_lm_mask,
    project,
)
from numpy_paligemma.model.layers import Affine
from numpy_paligemma.model.pipeline import key_mask

cells = hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)
bits = st.integers(0, 1)


@st.composite
def two_masks(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Draw an attention mask and token types of one shape, whatever they say."""
    shape = draw(cells)
    real, answer = (draw(hnp.arrays(np.int64, shape, elements=bits)) for _ in "ab")
    return real, answer


def by_the_rule(real: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """Ask the rule of every pair: a loop over row, query and key."""
    B, T = real.shape
    mask = np.zeros((B, 1, T, T), bool)
    for b in range(B):
        for i in range(T):
            for j in range(T):
                earlier = j <= i
                both_prefix = answer[b, i] == 0 and answer[b, j] == 0
                mask[b, 0, i, j] = (earlier or both_prefix) and real[b, j] == 1
    return mask


@given(two_masks())
def test_the_prefix_mask_is_its_rule_pair_by_pair(
    masks: tuple[np.ndarray, np.ndarray],
) -> None:
    np.testing.assert_array_equal(prefix_lm_mask(*masks), by_the_rule(*masks))


@given(two_masks(), st.integers(1, 7))
def test_a_window_shortens_what_an_answer_sees_and_no_prefix(
    masks: tuple[np.ndarray, np.ndarray], window: int
) -> None:
    T = masks[0].shape[1]
    near = [[i - window < j for j in range(T)] for i in range(T)]
    prefix = masks[1] == 0
    both_prefix = prefix[:, None, :, None] & prefix[:, None, None, :]
    expected = by_the_rule(*masks) & (np.array(near) | both_prefix)
    np.testing.assert_array_equal(prefix_lm_mask(*masks, window), expected)


@given(hnp.arrays(np.int64, cells, elements=bits), st.integers(1, 7))
def test_a_new_token_sees_what_its_window_holds(real: np.ndarray, window: int) -> None:
    answers = np.ones_like(real)  # the last cell is the new token
    expected = prefix_lm_mask(real, answers, window)[:, :, -1:]
    keys = key_mask(real, like=np.empty(0), window=window)
    hidden = np.broadcast_to(True if keys is None else keys, expected.shape)
    np.testing.assert_array_equal(hidden, expected)


@given(hnp.arrays(np.int64, cells, elements=bits))
def test_without_token_types_all_is_prefix(real: np.ndarray) -> None:
    expected = by_the_rule(real, np.zeros_like(real))
    np.testing.assert_array_equal(prefix_lm_mask(real), expected)
    keys = key_mask(real, like=np.empty(0))
    hidden = np.broadcast_to(True if keys is None else keys, expected.shape)
    np.testing.assert_array_equal(hidden, expected)


def test_the_picture_sees_the_prompt_and_the_answer_sees_no_future() -> None:
    real = np.ones((1, 5), int)
    mask = prefix_lm_mask(real, np.array([[0, 0, 0, 1, 1]]))[0, 0].astype(int)
    assert mask.tolist() == [
        [1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1],
    ]


def test_without_padding_there_is_no_mask_to_apply() -> None:
    assert key_mask(np.ones((2, 3), int), like=np.empty(0)) is None


@given(hnp.arrays(np.int64, cells, elements=bits))
def test_positions_count_the_real_tokens_from_one(real: np.ndarray) -> None:
    expected = np.ones_like(real)
    for row, out in zip(real.tolist(), expected, strict=True):
        for t, cell in enumerate(row):
            if cell:
                out[t] = sum(row[: t + 1])
    np.testing.assert_array_equal(positions_of(real), expected)


def test_padding_does_not_move_a_prompt() -> None:
    padded = positions_of(np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]))
    assert padded.tolist() == [[1, 1, 1, 2, 3], [1, 2, 3, 4, 5]]


def test_text_is_scaled_by_the_root_of_the_width_and_soft_tokens_are_not(
    rng: np.random.Generator,
) -> None:
    table, ids = rng.normal(size=(7, 9)), np.array([[3, 0], [6, 6]])
    one_hot = np.eye(7)[ids]  # (B, T, V)
    expected = np.einsum("btv,vd->btd", one_hot, table) * 3
    assert relative_error(embed_text(ids, table), expected) < ORACLE
    w = Affine(rng.normal(size=(9, 4)), rng.normal(size=9))
    features = rng.normal(size=(2, 5, 4))
    soft = np.einsum("bpi,oi->bpo", features, w.weight) + w.bias
    assert relative_error(project(features, w), soft) < ORACLE


def test_an_id_behind_the_table_takes_the_first_row(rng: np.random.Generator) -> None:
    table = rng.normal(size=(4, 9))
    out = embed_text(np.array([[3, 4, 99]]), table)[0]
    np.testing.assert_array_equal(out, 3 * table[[3, 0, 0]])


def test_soft_tokens_fill_their_places_in_order(rng: np.random.Generator) -> None:
    text, soft = rng.normal(size=(2, 5, 3)), rng.normal(size=(3, 2, 3))
    before = text.copy()
    is_image = np.array([[0, 1, 1, 0, 0], [1, 1, 0, 1, 1]], bool)
    expected, queue = text.copy(), list(soft.reshape(-1, 3))
    for b, t in np.ndindex(2, 5):
        if is_image[b, t]:
            expected[b, t] = queue.pop(0)
    np.testing.assert_array_equal(fuse(soft, text, is_image), expected)
    np.testing.assert_array_equal(text, before)  # what was tapped is not written into


@pytest.mark.parametrize("places", [0, 5, 7])
def test_places_and_soft_tokens_must_be_equally_many(places: int) -> None:
    is_image = np.arange(8)[None] < places
    told = f"^the prompt has {places} <image> tokens, the pictures 6$"
    with pytest.raises(ValueError, match=told):
        fuse(np.zeros((2, 3, 4)), np.zeros((1, 8, 4)), is_image)
