"""How a tensor of the file becomes a weight: held as asked, converted where it must be."""

import math
from collections.abc import Callable, Iterator

import numpy as np

from numpy_paligemma.arrays.formats import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    INT8,
    UNBOUNDED_FLOAT16,
    all_finite,
    round_to_bfloat16,
    widen_bfloat16,
)
from numpy_paligemma.arrays.matrix import HeldMatrix
from numpy_paligemma.arrays.threads import scratch
from numpy_paligemma.model.layers import Matrix
from numpy_paligemma.model.parallel import cut, in_parallel

HELD_DTYPES = ("bfloat16", "float16", "float32", "float64", "int8")
CONVERTED = 1 << 18  # numbers converted at a time
LARGE = 1 << 20  # numbers from which a float32 matrix is worth tiles and threads
INT8_MOST = 127  # -128 is left out, so that a sign changes nothing


def hold_matrix(stored: np.ndarray, dtype: str) -> Matrix:
    """Hold a matrix as `dtype`: zero-copy where the file has it so.

    Parameters
    ----------
    stored : uint16 (bfloat16 bits), float16 or float32 array, (out, in)
        As `StoredTensor.read` gives it.
    dtype : one of `HELD_DTYPES`

    Returns
    -------
    ndarray for float64 and for small float32 ones, HeldMatrix for the others
    """
    if dtype in {"float32", "float64"}:
        wide = _single(stored) if dtype == "float32" else hold_vector(stored, dtype)
        large = dtype == "float32" and wide.size >= LARGE
        return HeldMatrix(wide, FLOAT32) if large else wide
    if dtype == "int8":
        return _in_eight_bits(stored)
    if dtype == "bfloat16":
        bits = stored if stored.dtype == np.uint16 else _by_rows(stored, to_bfloat16)
        return HeldMatrix(bits, BFLOAT16)
    halves = stored if stored.dtype == np.float16 else _by_rows(stored, to_float16)
    return HeldMatrix(halves, FLOAT16 if all_finite(halves) else UNBOUNDED_FLOAT16)


def hold_vector(stored: np.ndarray, dtype: str) -> np.ndarray:
    """Widen a small tensor to the dtype of the arithmetic: float64 or float32."""
    if stored.dtype == np.float64:  # worked out and not read
        return stored
    wide = to_float32(stored)
    return wide.astype(np.float64) if dtype == "float64" else wide


def to_float32(stored: np.ndarray) -> np.ndarray:
    """Read the file's numbers as float32, exactly; float32 is not copied."""
    return (
        widen_bfloat16(stored)
        if stored.dtype == np.uint16
        else stored.astype(np.float32, copy=False)
    )


def to_bfloat16(stored: np.ndarray) -> np.ndarray:
    """Round float16 or float32 to the nearest bfloat16 bits."""
    return round_to_bfloat16(to_float32(stored))


def to_float16(stored: np.ndarray) -> np.ndarray:
    """Round bfloat16 bits or float32 to the nearest float16.

    Raises
    ------
    ValueError
        If a number is too large for float16.
    """
    wide = to_float32(stored)
    with np.errstate(over="ignore"):
        halves = wide.astype(np.float16)
    if np.isinf(halves).any() and not np.isinf(wide).any():
        msg = f"float16 ends at 65504, the checkpoint holds {np.abs(wide).max():.4g}; "
        raise ValueError(msg + "use bfloat16 or float32")
    return halves


def _single(stored: np.ndarray) -> np.ndarray:
    """Have float32: the file's own, or widened a block of rows at a time."""
    if stored.dtype == np.float32:
        return stored
    out = np.empty(stored.shape, np.float32)

    def widen(parts: Iterator[slice]) -> None:
        for rows in parts:
            _widen(stored[rows], out[rows])

    in_parallel(widen, _blocks(stored))
    return out


def _in_eight_bits(stored: np.ndarray) -> HeldMatrix:
    """Round to eight bits with one scale a row, a block of rows at a time.

        scale = max|row| / 127,  code = round(row / scale)

    A number is off by at most half its row's scale. What is infinite or no number makes
    its row's scale NaN, and is found where the model's numbers are looked at.
    """
    scales = np.empty(len(stored), np.float32)
    codes = np.empty(stored.shape, np.int8)

    def convert(parts: Iterator[slice]) -> None:
        for rows in parts:
            held = stored[rows]
            wide = _widen(held, scratch(held.size).reshape(held.shape))
            most = np.maximum(wide.max(axis=1), -wide.min(axis=1))
            scales[rows] = np.where(np.isfinite(most), most / INT8_MOST, math.nan)
            steps = np.where(scales[rows] > 0, scales[rows], 1)
            with np.errstate(invalid="ignore"):  # NaN has no code; its scale tells
                np.rint(np.divide(wide, steps[:, None], out=wide), out=wide)
                np.clip(wide, -INT8_MOST, INT8_MOST, out=wide)  # subnormal scales
                np.copyto(codes[rows], wide, casting="unsafe")

    in_parallel(convert, _blocks(stored))
    return HeldMatrix(codes, INT8, scales)


def _widen(stored: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Read the file's numbers as float32 into `out`."""
    if stored.dtype == np.uint16:
        return widen_bfloat16(stored, out)
    np.copyto(out, stored)
    return out


def _by_rows(
    stored: np.ndarray, convert: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Convert a block of rows at a time: the peak is the source plus the result."""
    out = np.empty(stored.shape, convert(stored[:1]).dtype)

    def fill(parts: Iterator[slice]) -> None:
        for rows in parts:
            out[rows] = convert(stored[rows])

    in_parallel(fill, _blocks(stored))
    return out


def _blocks(stored: np.ndarray) -> list[slice]:
    """Cut the rows of a matrix into blocks of a core's cache."""
    return cut(len(stored), max(1, CONVERTED // stored.shape[1]))
