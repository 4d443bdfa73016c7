"""Matrices fitted to what one side shows, where it has more rows than they have columns.

Of few tokens nothing can be fitted; of many, or of a small model, a projection is known
by its inputs and outputs, and a mistake around it can be replayed without the weights.
"""

from dataclasses import replace

import numpy as np

from numpy_paligemma.model.attention import merge_heads
from numpy_paligemma.model.layers import Affine
from numpy_paligemma.traces.evidence.gains import Given
from numpy_paligemma.traces.evidence.known import Model

SPARE = 1.2  # rows a column


def with_matrices(model: Model, given: Given, tap: str) -> Model:
    """Fit the matrix that makes a tap, where a side shows enough of it.

    Parameters
    ----------
    model : weights and sizes
    given : callable
        The side's arrays by their taps.
    tap : str
    """
    w, c = model
    if tap == "projector/out":
        fitted = _affine(given("vision/out"), given(tap))
        return (replace(w, projector=fitted) if fitted else w), c
    if tap == "logits" and c.text.logit_cap is None:
        head = _matrix(given("decoder/out"), given(tap))
        return (
            w if head is None else replace(w, decoder=replace(w.decoder, head=head))
        ), c
    if tap.startswith("vision/block") and tap.endswith("attention/out"):
        out = _affine(_context(given, tap, "v"), given(tap))
        return (_in_block(w, "vision", tap, out_proj=out) if out else w), c
    if tap.startswith("decoder/block") and tap.endswith("attention/out"):
        o = _matrix(_context(given, tap, "v_proj"), given(tap))
        return (w if o is None else _in_block(w, "decoder", tap, o_proj=o)), c
    return model


def _in_block(w, room: str, tap: str, **fields: object):  # type: ignore[no-untyped-def]
    """Put matrices into the block of a tap."""
    part = getattr(w, room)
    i = int(tap.partition("/block")[2][:2])
    block = replace(part.blocks[i], **fields)
    blocks = (*part.blocks[:i], block, *part.blocks[i + 1 :])
    return replace(w, **{room: replace(part, blocks=blocks)})


def _context(given: Given, tap: str, values: str) -> np.ndarray | None:
    """Work out what goes into the projection behind the heads, (B, T, N·H)."""
    at = tap.removesuffix("out")
    probs, v = given(at + "probs"), given(at + values)
    if probs is None or v is None or probs.shape[3] != v.shape[2]:
        return None
    return merge_heads(probs @ np.repeat(v, probs.shape[1] // v.shape[1], 1))


def _matrix(x: np.ndarray | None, y: np.ndarray | None) -> np.ndarray | None:
    """Fit w in y = x @ w.T, (out, in); None where there are too few rows."""
    if x is None or y is None or x.shape[:-1] != y.shape[:-1]:
        return None
    rows, outs = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
    if len(rows) < SPARE * rows.shape[1]:
        return None
    return np.linalg.lstsq(rows, outs, rcond=None)[0].T


def _affine(x: np.ndarray | None, y: np.ndarray | None) -> Affine | None:
    """Fit a matrix and a bias."""
    if x is None:
        return None
    both = _matrix(np.concatenate([x, np.ones_like(x[..., :1])], axis=-1), y)
    return None if both is None else Affine(both[:, :-1], both[:, -1])
