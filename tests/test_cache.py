"""The cache changes nothing but the time, and says how much room it has."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tolerances import ORACLE, relative_error

from numpy_paligemma.model.cache import LayerCache
from numpy_paligemma.model.config import TextConfig
from numpy_paligemma.model.gemma import (
    GemmaBlockWeights,
    GemmaWeights,
    gemma_decoder,
)

LENGTH = 7
C = TextConfig(
    vocab_size=11,
    width=10,
    depth=2,
    heads=4,
    kv_heads=2,
    head_dim=6,
    mlp_width=14,
    norm_eps=1e-6,
    rope_base=10000.0,
)


def decoder(rng: np.random.Generator) -> GemmaWeights:
    """Draw a decoder in float64."""

    def block() -> GemmaBlockWeights:
        return GemmaBlockWeights(
            attention_norm=rng.normal(size=10),
            q_proj=rng.normal(size=(24, 10)),
            k_proj=rng.normal(size=(12, 10)),
            v_proj=rng.normal(size=(12, 10)),
            o_proj=rng.normal(size=(10, 24)),
            mlp_norm=rng.normal(size=10),
            gate_proj=rng.normal(size=(14, 10)),
            up_proj=rng.normal(size=(14, 10)),
            down_proj=rng.normal(size=(10, 14)),
        )

    table = rng.normal(size=(11, 10))
    return GemmaWeights(table, (block(), block()), rng.normal(size=10), table)


def pieces_of_the_sequence() -> st.SearchStrategy[list[int]]:
    """Cut LENGTH tokens into runs, any way at all."""
    cuts = st.sets(st.integers(1, LENGTH - 1))
    return cuts.map(lambda c: np.diff([0, *sorted(c), LENGTH]).tolist())


@given(pieces_of_the_sequence())
def test_any_way_of_cutting_a_sequence_gives_the_same_output(steps: list[int]) -> None:
    rng = np.random.default_rng(5)
    w, x = decoder(rng), rng.normal(size=(2, LENGTH, 10))
    positions = np.stack([np.arange(LENGTH) + 1, np.arange(LENGTH) + 40])
    causal = np.tri(LENGTH, dtype=bool)[None, None]
    whole = gemma_decoder(x, positions, causal, w, C)

    caches = [LayerCache.empty(2, 2, LENGTH, 6, like=x) for _ in w.blocks]
    parts, start = [], 0
    for step in steps:
        new = slice(start, start + step)
        mask = causal[:, :, new, : new.stop]
        parts.append(gemma_decoder(x[:, new], positions[:, new], mask, w, C, caches))
        start += step
    assert relative_error(np.concatenate(parts, axis=1), whole) < ORACLE


def test_what_is_read_back_is_all_that_was_written(rng: np.random.Generator) -> None:
    k, v = rng.normal(size=(2, 1, 2, 5, 3))
    cache = LayerCache.empty(1, 2, 9, 3, like=k)
    cache.extend(k[:, :, :2], v[:, :, :2])
    keys, values = cache.extend(k[:, :, 2:], v[:, :, 2:])
    np.testing.assert_array_equal(keys, k)
    np.testing.assert_array_equal(values, v)
    assert np.shares_memory(keys, cache.keys)
    assert cache.length == 5


def test_a_full_cache_says_how_much_room_there_is() -> None:
    four, six = np.zeros((1, 2, 4, 3)), np.zeros((1, 2, 6, 3))
    cache = LayerCache.empty(1, 2, 8, 3, like=four)
    cache.extend(four, four)
    told = "^the cache has room for 4 positions, but 6 are needed$"
    with pytest.raises(ValueError, match=told):
        cache.extend(six, six)
    assert cache.length == 4
    keys, _ = cache.extend(four, four)  # the refusal cost nothing
    assert keys.shape[2] == 8


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_empty_cache_has_the_dtype_of_its_model(dtype: type) -> None:
    cache = LayerCache.empty(1, 1, 2, 3, like=np.empty(0, dtype))
    assert cache.keys.dtype == cache.values.dtype == dtype
