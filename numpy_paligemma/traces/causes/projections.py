"""Mistakes in projections, and in how their outputs are cut into heads."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from numpy_paligemma.model.attention import merge_heads
from numpy_paligemma.model.layers import Affine
from numpy_paligemma.traces.causes.variant import Here, Setup, Variant


def _no_bias(name: str, w: Any) -> Any:
    """Leave a projection's bias out."""
    return replace(w, **{name: getattr(w, name)._replace(bias=None)})


def _matrix(w: Any, name: str) -> np.ndarray:
    """Take a projection's matrix; a stored one is widened by its rows."""
    part = getattr(w, name)
    matrix = part.weight if isinstance(part, Affine) else part
    return matrix[np.arange(matrix.shape[0])]


def _transposed(name: str, w: Any) -> Any:
    """Turn a square matrix."""
    matrix = _matrix(w, name)
    if matrix.shape[0] != matrix.shape[1]:
        return w
    part: Any = getattr(w, name)
    turned = part._replace(weight=matrix.T) if isinstance(part, Affine) else matrix.T
    return replace(w, **{name: turned})


def _exchanged(one: str, other: str, w: Any) -> Any:
    """Exchange two matrices."""
    return replace(w, **{one: getattr(w, other), other: getattr(w, one)})


def _eye(change: Callable[[Any], Any], setup: Setup) -> Setup:
    return setup.eye(change)


def _decoder(change: Callable[[Any], Any], setup: Setup) -> Setup:
    return setup.decoder(change)


def _not_transposed(_: Here, x: np.ndarray) -> np.ndarray:
    """Cut (B, T, N·H) by a reshape alone."""
    B, N, T, H = x.shape
    return merge_heads(x).reshape(B, N, T, H)


def _heads_inner(_: Here, x: np.ndarray) -> np.ndarray:
    """Cut the last axis into (H, N) where (N, H) is due."""
    B, N, T, H = x.shape
    return merge_heads(x).reshape(B, T, H, N).transpose(0, 3, 1, 2)


def _interleaved(_: Here, x: np.ndarray) -> np.ndarray:
    """Order each head's halves as pairs."""
    a, b = np.split(x, 2, axis=-1)
    return np.stack([a, b], axis=-1).reshape(x.shape)


def _halved(_: Here, x: np.ndarray) -> np.ndarray:
    """Order each head's pairs as halves."""
    return np.concatenate([x[..., ::2], x[..., 1::2]], axis=-1)


def _projections() -> list[Variant]:
    """List the mistakes of q, k, v and of the projection behind them."""
    names = {"vision": ("q", "k", "v"), "decoder": ("q_proj", "k_proj", "v_proj")}
    listed = []
    for room in ("vision", "decoder"):
        change = _eye if room == "vision" else _decoder
        out = "out_proj" if room == "vision" else "o_proj"
        fields = {name: f"{name[0]}_proj" for name in names[room]} | {"out": out}
        for name, field in fields.items():
            at = f"{room}/block/attention/{name}"
            listed.append(
                Variant(
                    "matrix transposed",
                    f"{field}'s matrix is transposed",
                    at,
                    partial(change, partial(_transposed, field)),
                )
            )
            if room == "vision":
                listed.append(
                    Variant(
                        "bias dropped",
                        f"{field}'s bias is left out",
                        at,
                        partial(_eye, partial(_no_bias, field)),
                    )
                )
            if name == "out":
                continue
            told = "cut without a transpose: (B, T, N·H) is read as (B, N, T, H)"
            listed += [
                Variant(
                    "heads cut wrongly",
                    f"{name}'s heads are {told}",
                    at,
                    swap=_not_transposed,
                ),
                Variant(
                    "heads cut wrongly",
                    f"{name}'s heads are the inner axis",
                    at,
                    swap=_heads_inner,
                ),
                Variant(
                    "head axis permuted",
                    f"{name}'s head axis is ordered as pairs",
                    at,
                    swap=_interleaved,
                ),
                Variant(
                    "head axis permuted",
                    f"{name}'s head axis is ordered from pairs to halves",
                    at,
                    swap=_halved,
                ),
            ]
        q, k, v = fields.values() if len(fields) == 3 else list(fields.values())[:3]
        for one, other in ((q, k), (k, v), (q, v)):
            at = f"{room}/block/attention/" + next(
                n for n, f in fields.items() if f == one
            )
            listed.append(
                Variant(
                    "matrices exchanged",
                    f"{one} and {other} are exchanged",
                    at,
                    partial(change, partial(_exchanged, one, other)),
                )
            )
    return listed


PROJECTIONS = tuple(_projections())
