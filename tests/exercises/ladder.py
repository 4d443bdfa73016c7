"""The ladder: every layer that a reader may write, from one line to a whole block.

Each has the cases in which it is called; a case is a function that calls a layer, ours
or the reader's, on arrays drawn for it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from exercises.draw import TEXT, VISION, Draw, read_only
from numpy_paligemma.model import (
    attention,
    cache,
    fusion,
    gemma,
    layers,
    rope,
    sampling,
    siglip,
)

Case = Callable[[Any, Draw], Any]

HOME = {  # the module that each name comes from
    name: module
    for module in (attention, cache, fusion, gemma, layers, rope, sampling, siglip)
    for name, value in vars(module).items()
    if getattr(value, "__module__", "") == module.__name__
}
PADDING = read_only(np.array([[0, 0, 1, 1, 1, 1, 1], [1] * 7]))  # (B, T)
ANSWER = read_only(np.array([[0] * 4 + [1] * 3, [0] * 2 + [1] * 5]))
IMAGES_FIRST = read_only(np.arange(7) < np.array([[4], [2]]))  # (B, T), six places


def scores(a: Draw, loudest: float) -> np.ndarray:
    """Draw scores, and put one of a given size among them."""
    return np.where(np.arange(5) == 3, loudest, a(2, 3, 5))


def attend(f: Any, a: Draw, N: int, K: int, *mask: np.ndarray | None) -> Any:
    """Call attention with N query heads and K key-value heads."""
    return f(a(2, N, 5, 6), a(2, K, 7, 6), a(2, K, 7, 6), *mask)


def in_gemma(f: Any, a: Draw, *, held: int, causal: bool) -> Any:
    """Call a part of Gemma on 5 new positions, `held` more in the cache."""
    x, w, table = a(3, 5, TEXT.width), a.gemma(), a.rope(3, 5, TEXT.head_dim)
    mask = np.tri(5, 5 + held, held, dtype=bool)[None, None] if causal else None
    return f(x, w, table, mask, a.cached(3, held, 5) if held else None, TEXT)


def grow(f: Any, a: Draw, room: int) -> Any:
    """Write two positions into a cache of one's own, then three more."""
    kept = f.empty(2, 3, room, 4, like=a(1))
    kept.extend(a(2, 3, 2, 4), a(2, 3, 2, 4))
    keys, values = kept.extend(a(2, 3, 3, 4), a(2, 3, 3, 4))
    return keys, values, np.array(kept.length)


def draws(f: Any, a: Draw, temperature: float, top_p: float) -> Any:
    """Draw one token from each of 60 seeds."""
    logits = a(50, scale=3)
    seeds = map(np.random.default_rng, range(60))
    return np.array([f(logits, s, temperature=temperature, top_p=top_p) for s in seeds])


CACHE_AND_MASK: dict[str, Case] = {
    "without a mask": lambda f, a: in_gemma(f, a, held=0, causal=False),
    "under a causal mask": lambda f, a: in_gemma(f, a, held=0, causal=True),
    "two positions cached": lambda f, a: in_gemma(f, a, held=2, causal=True),
}
SIGLIP: dict[str, Case] = {
    "": lambda f, a: f(a(2, 9, VISION.width), a.siglip(), VISION)
}

LADDER: dict[str, dict[str, Case]] = {
    "linear": {
        "without a bias": lambda f, a: f(a(2, 3, 5), a(7, 5)),
        "with a bias": lambda f, a: f(a(2, 3, 5), a(7, 5), a(7)),
    },
    "split_heads": {"": lambda f, a: f(a(2, 5, 12), 4)},
    "merge_heads": {"": lambda f, a: f(a(2, 3, 5, 4))},
    "project": {"": lambda f, a: f(a(2, 3, 5), a.affine(7, 5))},
    "embed_text": {
        "": lambda f, a: f(np.array([[3, 6, 1], [0, 4, 3]]), a(7, 5)),
        "an id beyond the table": lambda f, a: f(np.array([[9, 6, 1]]), a(7, 5)),
    },
    "positions_of": {"": lambda f, _: f(PADDING)},
    "softmax": {
        "": lambda f, a: f(a(2, 3, 5)),
        "a score of 1,000": lambda f, a: f(scores(a, 1e3)),
        "a score of -inf": lambda f, a: f(scores(a, -np.inf)),
    },
    "gelu": {"": lambda f, a: f(a(2, 3, 5, scale=2))},
    "rms_norm": {
        "": lambda f, a: f(a(2, 3, 5), a(5), 1e-6),
        "a large eps": lambda f, a: f(a(2, 3, 5), a(5), 0.1),
        "a vector of noughts": lambda f, a: f(a(2, 3, 5, scale=0), a(5), 1e-6),
    },
    "layer_norm": {
        "": lambda f, a: f(a(2, 3, 5), a(5), a(5), 1e-6),
        "a large eps": lambda f, a: f(a(2, 3, 5), a(5), a(5), 0.1),
    },
    "cut_patches": {
        "": lambda f, a: f(a(2, 3, 8, 8), 2),
        "a picture that is no square": lambda f, a: f(a(2, 3, 8, 10), 2),
        "pixels beyond the last patch": lambda f, a: f(a(2, 3, 9, 13), 4),
    },
    "fuse": {
        "one picture a row": lambda f, a: f(
            a(2, 3, 5), a(2, 7, 5), np.arange(7) < np.array([[3], [3]])
        ),
        "unequal rows": lambda f, a: f(a(2, 3, 5), a(2, 7, 5), IMAGES_FIRST),
        "too few places": lambda f, a: f(a(3, 3, 5), a(2, 7, 5), IMAGES_FIRST),
    },
    "prefix_lm_mask": {
        "all prefix": lambda f, _: f(PADDING),
        "no padding": lambda f, _: f(np.ones_like(ANSWER), ANSWER),
        "padding and answer": lambda f, _: f(PADDING, ANSWER),
    },
    "rope_table": {
        "": lambda f, a: f(a.rng.integers(0, 300, (2, 5)), 6, 10_000.0, like=a(1)),
        "another base": lambda f, a: f(PADDING.cumsum(axis=1), 8, 500.0, like=a(1)),
        "one new token": lambda f, a: f(np.array([[5], [9]]), 6, 500.0, like=a(1)),
    },
    "apply_rope": {"": lambda f, a: f(a(2, 3, 5, 8), a.rope(2, 5, 8))},
    "nucleus": {
        "": lambda f, a: f(a.probs(40), 0.8),
        "top_p of 1": lambda f, a: f(a.probs(40), 1.0),
        "a tiny top_p": lambda f, a: f(a.probs(40), 1e-6),
    },
    "sample_token": {
        "temperature 0": lambda f, a: draws(f, a, 0, 1.0),
        "temperature 1": lambda f, a: draws(f, a, 1.0, 1.0),
        "temperature 0.6, top_p 0.8": lambda f, a: draws(f, a, 0.6, 0.8),
    },
    "grouped_query_attention": {
        "one key-value head a query head": lambda f, a: attend(f, a, 3, 3),
        "groups of four": lambda f, a: attend(f, a, 12, 3, None),
        "one key-value head": lambda f, a: attend(f, a, 4, 1, None),
        "under a mask": lambda f, a: attend(
            f, a, 12, 3, np.tri(5, 7, 2, dtype=bool)[None, None]
        ),
        "a query that sees nothing": lambda f, a: attend(
            f, a, 12, 3, np.tri(5, 7, -1, dtype=bool)[None, None]
        ),
    },
    "gemma_mlp": {"": lambda f, a: f(a(2, 3, TEXT.width), a.gemma())},
    "siglip_mlp": {"": lambda f, a: f(a(2, 3, VISION.width), a.siglip())},
    "LayerCache": {
        "": lambda f, a: grow(f, a, room=7),
        "too little room": lambda f, a: grow(f, a, room=4),
    },
    "siglip_attention": SIGLIP,
    "siglip_block": SIGLIP,
    "gemma_attention": CACHE_AND_MASK,
    "gemma_block": CACHE_AND_MASK,
}
