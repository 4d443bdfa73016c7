"""Mistakes in scores, probabilities and what they gather, of eye and decoder."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from numpy_paligemma.model.attention import merge_heads
from numpy_paligemma.model.layers import linear, soft_cap, softmax
from numpy_paligemma.traces.causes.variant import Here, Swap, Variant

ROOMS = ("vision", "decoder")


def _head_dim(here: Here) -> int:
    return here.setup.sizes(here.room).head_dim


def _scale(c: Any) -> float:
    """Take what the right scores are multiplied by."""
    given = getattr(c, "query_scale", None)
    return c.head_dim**-0.5 if given is None else given


SCALES: tuple[tuple[str, Callable[[Any], float]], ...] = (
    (
        "1/√(N·H), the root of all heads together, where one head's is due",
        lambda c: (c.heads * c.head_dim) ** -0.5,
    ),
    ("1/√D, the root of the width, where one head's is due", lambda c: c.width**-0.5),
    (
        "1/√(D/N), the width over the heads, where the head's own size is due",
        lambda c: (c.width / c.heads) ** -0.5,
    ),
    (
        "1/√H, the head's own size, where the config has another number",
        lambda c: c.head_dim**-0.5,
    ),
    ("1/H, the root left out", lambda c: 1 / c.head_dim),
    ("one: they are not scaled", lambda _: 1.0),
    ("the right number twice", lambda c: _scale(c) ** 2),
    ("√H: multiplied where divided is due", lambda c: c.head_dim**0.5),
)


def _scores(
    here: Here, scale: float, cap: float | None, mask: np.ndarray | None = None
) -> np.ndarray:
    """Work scores out from q and k."""
    q, k = here.near("attention/q"), here.near("attention/k")
    k = np.repeat(k, q.shape[1] // k.shape[1], 1)
    scores = soft_cap(q @ k.swapaxes(-1, -2) * scale, cap)
    return scores if mask is None else np.where(mask, scores, -math.inf)


def _cap(here: Here) -> float | None:
    return getattr(here.setup.sizes(here.room), "score_cap", None)


def _scaled(of: Callable[[Any], float], here: Here, _: np.ndarray) -> np.ndarray:
    return _scores(here, of(here.setup.sizes(here.room)), _cap(here))


def _capped(cap: float | None, here: Here, _: np.ndarray) -> np.ndarray:
    return _scores(here, _scale(here.setup.sizes(here.room)), cap)


def _capped_first(here: Here, _: np.ndarray) -> np.ndarray:
    """Bend before the scale."""
    scale = _scale(here.setup.sizes(here.room))
    return soft_cap(_scores(here, 1.0, None), _cap(here)) * scale


def _tiled(here: Here, x: np.ndarray) -> np.ndarray:
    """Give query heads the key heads 0 1 0 1 where 0 0 1 1 is due."""
    heads = here.near("attention/q_proj" if here.room == "decoder" else "attention/q")
    return np.tile(x, (1, heads.shape[1] // x.shape[1], 1, 1))


def _mask(here: Here) -> np.ndarray | None:
    c = here.setup.c.text
    return here.setup.masks[here.number in c.sliding_blocks]


def _masked(here: Here, scores: np.ndarray) -> np.ndarray:
    mask = _mask(here) if here.room == "decoder" else None
    return (
        scores if mask is None else np.where(mask, scores, np.finfo(scores.dtype).min)
    )


def _capped_behind(here: Here, _: np.ndarray) -> np.ndarray:
    """Bend masked scores, too: what is hidden is only little."""
    cap, mask = _cap(here), _mask(here)
    if cap is None or mask is None:
        return here.near("attention/scores") * math.nan
    return softmax(np.where(mask, here.near("attention/scores"), -cap))


def _over_queries(here: Here, _: np.ndarray) -> np.ndarray:
    scores = _masked(here, here.near("attention/scores"))
    return softmax(scores.swapaxes(-1, -2)).swapaxes(-1, -2)


def _one_more(here: Here, _: np.ndarray) -> np.ndarray:
    """Add one to the sum, as softmax with a sink does."""
    scores = _masked(here, here.near("attention/scores"))
    top = np.maximum(np.max(scores, -1, keepdims=True), 0)
    e = np.exp(scores - top)
    return e / (np.exp(-top) + np.sum(e, -1, keepdims=True))


def _causal_eye(here: Here, _: np.ndarray) -> np.ndarray:
    scores = here.near("attention/scores")
    tri = np.tri(scores.shape[-1], dtype=bool)
    return softmax(np.where(tri, scores, np.finfo(scores.dtype).min))


def _zeroed(here: Here, _: np.ndarray) -> np.ndarray:
    """Set hidden scores to nought before the softmax."""
    mask = _mask(here)
    scores = here.near("attention/scores")
    return softmax(scores if mask is None else np.where(mask, scores, 0))


def _hidden_behind(here: Here, _: np.ndarray) -> np.ndarray:
    """Hide behind the softmax, so that rows sum to less than one."""
    mask = _mask(here)
    probs = softmax(here.near("attention/scores"))
    return probs if mask is None else np.where(mask, probs, 0)


def _context(here: Here) -> np.ndarray:
    """Gather values by probabilities, (B, N, T, H)."""
    v = here.near("attention/v" if here.room == "vision" else "attention/v_proj")
    probs = here.near("attention/probs")
    if v.shape[2] != probs.shape[3]:
        msg = "values of earlier tokens are not here"
        raise KeyError(msg)
    return probs @ np.repeat(v, probs.shape[1] // v.shape[1], 1)


def _out(here: Here, merged: np.ndarray) -> np.ndarray:
    w = here.block
    if here.room == "vision":
        return linear(merged, *w.out_proj)
    return linear(merged, w.o_proj)


def _joined_wrongly(here: Here, _: np.ndarray) -> np.ndarray:
    context = _context(here)
    B, N, T, H = context.shape
    return _out(here, context.reshape(B, T, N * H))


def _joined_inner(here: Here, _: np.ndarray) -> np.ndarray:
    context = _context(here)
    B, N, T, H = context.shape
    return _out(here, context.transpose(0, 2, 3, 1).reshape(B, T, N * H))


def _not_projected(here: Here, _: np.ndarray) -> np.ndarray:
    return merge_heads(_context(here))


def _values_tiled(here: Here, _: np.ndarray) -> np.ndarray:
    v = here.near("attention/v" if here.room == "vision" else "attention/v_proj")
    probs = here.near("attention/probs")
    return _out(here, merge_heads(probs @ _tiled(here, v)))


def _in_room(room: str) -> list[Variant]:
    """List the mistakes between q, k, v and what comes out."""
    at = f"{room}/block/attention/"

    def swapped(name: str, cause: str, text: str, swap: Swap) -> Variant:
        return Variant(cause, text, at + name, swap=swap)

    listed = [
        swapped(
            "scores",
            "score scale",
            f"scores are multiplied by {told}",
            partial(_scaled, of),
        )
        for told, of in SCALES
    ]
    tiled = {at + "k": _tiled, at + "v_proj": _tiled}
    return [
        *listed,
        Variant(
            "key-value heads tiled",
            "query heads take key-value heads in turn (0 1 0 1) where each serves its "
            "neighbours (0 0 1 1)",
            at + "scores",
            behind=tiled if room == "decoder" else {},
        ),
        swapped(
            "probs",
            "softmax over queries",
            "softmax runs over queries, not keys",
            _over_queries,
        ),
        swapped(
            "probs", "softmax with a sink", "softmax has one more in its sum", _one_more
        ),
        swapped(
            "out",
            "heads joined wrongly",
            "heads are joined without a transpose",
            _joined_wrongly,
        ),
        swapped(
            "out",
            "heads joined wrongly",
            "heads are joined as the inner axis",
            _joined_inner,
        ),
        swapped(
            "out",
            "projection left out",
            "the projection behind the heads is left out",
            _not_projected,
        ),
        swapped(
            "out",
            "key-value heads tiled",
            "values are taken in turn (0 1 0 1) where 0 0 1 1 is due",
            _values_tiled,
        ),
    ]


ATTENTION = (
    *(variant for room in ROOMS for variant in _in_room(room)),
    Variant(
        "causal eye",
        "the eye's attention is causal",
        "vision/block/attention/probs",
        swap=_causal_eye,
    ),
    Variant(
        "score cap left out",
        "the cap on scores is left out",
        "decoder/block/attention/scores",
        swap=partial(_capped, None),
    ),
    *(
        Variant(
            "score cap",
            f"scores are capped at {cap:g}",
            "decoder/block/attention/scores",
            swap=partial(_capped, cap),
        )
        for cap in (50.0, 30.0, 20.0)
    ),
    Variant(
        "score cap before the scale",
        "scores are capped before they are scaled",
        "decoder/block/attention/scores",
        swap=_capped_first,
    ),
    Variant(
        "score cap behind the mask",
        "the cap bends what the mask has hidden, which is then seen a little",
        "decoder/block/attention/probs",
        swap=_capped_behind,
    ),
    Variant(
        "mask before softmax",
        "hidden scores are set to nought, which softmax still sees",
        "decoder/block/attention/probs",
        swap=_zeroed,
    ),
    Variant(
        "mask behind softmax",
        "the mask comes behind softmax: rows sum to less than one",
        "decoder/block/attention/probs",
        swap=_hidden_behind,
    ),
)
