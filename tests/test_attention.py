"""Attention against einsum, and what a mask does and does not do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tolerances import ORACLE, relative_error

from numpy_paligemma.model.attention import (
    grouped_query_attention,
    merge_heads,
    split_heads,
)
from numpy_paligemma.model.tap import recorder


def heads(
    rng: np.random.Generator, kv_heads: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw q (2, 4, 3, 6) and k, v (2, K, 5, 6)."""
    shapes = [(2, 4, 3, 6), (2, kv_heads, 5, 6), (2, kv_heads, 5, 6)]
    q, k, v = (rng.normal(size=shape) for shape in shapes)
    return q, k, v


def by_einsum(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | bool
) -> np.ndarray:
    """Give every query head a copy of its keys and values; exp without any care."""
    group = q.shape[1] // k.shape[1]
    k, v = (np.repeat(x, group, axis=1) for x in (k, v))
    e = np.exp(np.einsum("bnth,bnsh->bnts", q, k) / np.sqrt(q.shape[-1])) * mask
    return np.einsum("bnts,bnsh->bnth", e / e.sum(-1, keepdims=True), v)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("masked", [False, True])
def test_grouped_attention_is_attention_over_repeated_heads(
    kv_heads: int, masked: bool, rng: np.random.Generator
) -> None:
    q, k, v = heads(rng, kv_heads)
    mask = np.tri(3, 5, 2, dtype=bool) if masked else None
    expected = by_einsum(q, k, v, True if mask is None else mask)
    assert relative_error(grouped_query_attention(q, k, v, mask), expected) < ORACLE


def test_what_is_masked_has_no_say_at_all(rng: np.random.Generator) -> None:
    q, k, v = heads(rng, 2)
    mask = np.array([True, True, False, True, False])
    changed = np.where(mask[:, None], 0, 1e6)  # in the masked keys and values alone
    before = grouped_query_attention(q, k, v, mask)
    after = grouped_query_attention(q, k + changed, v - changed, mask)
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_that_sees_nothing_stays_finite(
    dtype: type, rng: np.random.Generator
) -> None:
    q, k, v = (x.astype(dtype) for x in heads(rng, 2))
    mask = np.ones((2, 1, 3, 5), bool)
    mask[1, :, 2] = False
    tap, seen = recorder()
    out = grouped_query_attention(q, k, v, mask, tap=tap)
    np.testing.assert_allclose(seen["probs"][1, :, 2], 1 / 5, rtol=1e-6)
    assert np.isfinite(out).all()
    assert out.dtype == dtype


def test_scores_are_tapped_before_the_mask_and_probs_after(
    rng: np.random.Generator,
) -> None:
    q, k, v = heads(rng, 1)
    mask = np.tri(3, 5, dtype=bool)
    tap, seen = recorder()
    grouped_query_attention(q, k, v, mask, tap=tap)
    expected = np.einsum("bnth,bsh->bnts", q, k[:, 0]) / np.sqrt(6)
    assert relative_error(seen["scores"], expected) < ORACLE
    hidden = seen["probs"][..., ~mask]
    np.testing.assert_array_equal(hidden, np.zeros_like(hidden))


@given(*[st.integers(1, 4)] * 4)
def test_splitting_then_merging_heads_changes_nothing(
    batch: int, tokens: int, heads: int, size: int
) -> None:
    x = np.arange(batch * tokens * heads * size).reshape(batch, tokens, -1)
    apart = split_heads(x, size)
    assert apart.shape == (batch, heads, tokens, size)
    np.testing.assert_array_equal(merge_heads(apart), x)


def test_a_head_is_a_run_of_neighbouring_columns() -> None:
    x = np.arange(24).reshape(1, 2, 12)
    np.testing.assert_array_equal(split_heads(x, 4)[0, 1, 0], [4, 5, 6, 7])
