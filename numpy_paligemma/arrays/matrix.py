"""Matrices of 16 bits a number, widened tile by tile as they are multiplied.

bfloat16 is the upper half of a float32, so widening is a shift by 16 bits; float16 has
a NumPy dtype of its own. Either way the numbers stay as they are in the file, memory
mapped, and a tile of rows at a time becomes float32 in the processor's cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

TILE_NUMBERS = 1 << 20  # numbers widened at a time: 4 MB of float32


def widen_bfloat16(bits: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Read bfloat16 bits as float32: uint16 (...) -> float32 (...), exactly."""
    out = np.empty(bits.shape, np.float32) if out is None else out
    wide = out.view(np.uint32)
    np.copyto(wide, bits)
    np.left_shift(wide, 16, out=wide)
    return out


def widen_float16(halves: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Read float16 as float32: (...) -> (...), exactly."""
    out = np.empty(halves.shape, np.float32) if out is None else out
    np.copyto(out, halves)
    return out


def round_to_bfloat16(x: np.ndarray) -> np.ndarray:
    """Round to the nearest bfloat16, ties to even: float32 (...) -> uint16 bits (...).

    Infinities stay; a NaN stays a NaN, made quiet so that rounding cannot turn it into
    an infinity.
    """
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    half_below = np.uint32(0x7FFF) + ((bits >> 16) & 1)  # the tie goes to the even one
    rounded = ((bits + half_below) >> 16).astype(np.uint16)
    quiet_nan = (bits >> 16).astype(np.uint16) | np.uint16(0x40)
    return np.where(np.isnan(x), quiet_nan, rounded)


class HalfMatrix:
    """A matrix (out, in) kept in 16 bits a number, multiplied in float32.

    Speaks the two operations of the model, ``x @ w.T`` and ``w[ids]``; anything else,
    `np.asarray` included, is refused, so that it is never widened whole unawares.

    Parameters
    ----------
    halves : uint16 or float16 array, (out, in)
        May be a view of a memory-mapped file.
    widen : callable
        `widen_bfloat16` or `widen_float16`, whichever reads `halves`.
    """

    __array_ufunc__ = None  # NEP 13: ``ndarray @ this`` asks `__rmatmul__`
    __slots__ = ("halves", "widen")

    def __init__(self, halves: np.ndarray, widen: Callable[..., np.ndarray]) -> None:
        self.halves = halves
        self.widen = widen

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes, (out, in)."""
        return self.halves.shape

    @property
    def nbytes(self) -> int:
        """Bytes as held."""
        return self.halves.nbytes

    @property
    def T(self) -> TransposedHalf:
        """The transpose, to stand on the right of ``@``."""
        return TransposedHalf(self)

    def __getitem__(self, ids: np.ndarray) -> np.ndarray:
        """Pick rows: ids (...) -> float32 (..., in)."""
        return self.widen(self.halves[ids])

    def __array__(self, *_: object, **__: object) -> NoReturn:
        msg = "a 16-bit matrix is multiplied as x @ w.T or read as w[ids]"
        raise TypeError(msg)


class TransposedHalf:
    """What stands on the right of ``x @ w.T``."""

    __array_ufunc__ = None
    __slots__ = ("matrix",)

    def __init__(self, matrix: HalfMatrix) -> None:
        self.matrix = matrix

    def __rmatmul__(self, x: np.ndarray) -> np.ndarray:
        """Multiply: float32 (..., in) -> float32 (..., out), a tile of rows at a time.

        All leading axes of `x` are one for the product, so that a batch reads the
        matrix once.
        """
        out_width, in_width = self.matrix.shape
        flat = x.reshape(-1, in_width)
        out = np.empty((len(flat), out_width), np.float32)
        step = min(out_width, max(1, TILE_NUMBERS // in_width))
        buffer = np.empty((step, in_width), np.float32)  # one for all: fresh pages cost
        for start in range(0, out_width, step):
            rows = slice(start, start + step)
            halves = self.matrix.halves[rows]
            tile = self.matrix.widen(halves, buffer[: len(halves)])
            np.matmul(flat, tile.T, out=out[:, rows])
        return out.reshape(*x.shape[:-1], out_width)
