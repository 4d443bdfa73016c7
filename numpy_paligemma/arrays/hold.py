"""How a tensor of the file becomes a weight: held as asked, converted where it must be."""

from collections.abc import Callable

import numpy as np

from numpy_paligemma.arrays.matrix import (
    TILE_NUMBERS,
    HalfMatrix,
    round_to_bfloat16,
    widen_bfloat16,
    widen_float16,
)
from numpy_paligemma.model.layers import Matrix

HELD_DTYPES = ("bfloat16", "float16", "float32", "float64")


def hold_matrix(stored: np.ndarray, dtype: str) -> Matrix:
    """Hold a matrix as `dtype`: zero-copy where the file has it so.

    Parameters
    ----------
    stored : uint16 (bfloat16 bits), float16 or float32 array, (out, in)
        As `StoredTensor.read` gives it.
    dtype : one of `HELD_DTYPES`

    Returns
    -------
    ndarray for float32 and float64, HalfMatrix for the others
    """
    if dtype in {"float32", "float64"}:
        return hold_vector(stored, dtype)
    if dtype == "bfloat16":
        bits = stored if stored.dtype == np.uint16 else _by_rows(stored, to_bfloat16)
        return HalfMatrix(bits, widen_bfloat16)
    halves = stored if stored.dtype == np.float16 else _by_rows(stored, to_float16)
    return HalfMatrix(halves, widen_float16)


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


def _by_rows(
    stored: np.ndarray, convert: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Convert a block of rows at a time: the peak is the source plus the result."""
    out = np.empty(stored.shape, convert(stored[:1]).dtype)
    step = max(1, TILE_NUMBERS // stored.shape[1])
    for start in range(0, len(stored), step):
        out[start : start + step] = convert(stored[start : start + step])
    return out
