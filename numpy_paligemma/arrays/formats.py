"""Number formats of 16 and 8 bits, and how each becomes float32.

bfloat16 is the upper half of a float32, so widening is a shift by 16 bits. float16 has
its exponent in other places: shifted there, its numbers are 2¹¹² too small. An int8 is
converted as it stands; the scale of its row waits for the product.

Two numbers of 16 bits are one word of 32. In a little-endian word the upper one, of an
odd column, needs its neighbour cleared, and the lower one, of an even column, a shift:
each without a copy of 16-bit numbers into 32-bit places, the slowest step of all.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Widen = Callable[[np.ndarray, np.ndarray], np.ndarray]

# NumPy scalars and not Python's, which would be looked at anew in each call
HALF_WORD = np.uint32(16)
UPPER_HALF = np.uint32(0xFFFF0000)
# float16 in a float32's place: the sign, and 5 + 10 bits of exponent and fraction
PLACE, PLACED = np.int32(13), np.int32(-0x70002000)
TO_PLACE = np.int32(3)  # from the upper half of a word
POSITIVE_INFINITY, NEGATIVE_INFINITY = 0x7C00, 0xFC00  # as float16 bits
REBIAS = np.float32(2.0**112)  # 127 - 15: what the exponent's offset differs by


class Format(NamedTuple):
    """How the numbers of a held matrix become float32, each of these functions exactly.

    All take rows as held, and a float32 array to write into, which they return.
    """

    widen: Widen  # (rows, columns) -> same
    word: type[np.generic] | None  # what neighbouring columns are read as, if as one
    lanes: tuple[Widen, ...]  # words (rows, columns / lanes) -> columns i, i + lanes, …


def widen_bfloat16(bits: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Read bfloat16 bits as float32: uint16 (...) -> float32 (...), exactly."""
    out = np.empty(bits.shape, np.float32) if out is None else out
    wide = out.view(np.uint32)
    np.copyto(wide, bits)
    np.left_shift(wide, HALF_WORD, out=wide)
    return out


def even_bfloat16(words: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Read the lower halves, columns 0, 2, … : uint32 (...) -> float32 (...)."""
    np.left_shift(words, HALF_WORD, out.view(np.uint32))
    return out


def odd_bfloat16(words: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Read the upper halves, columns 1, 3, … : uint32 (...) -> float32 (...)."""
    np.bitwise_and(words, UPPER_HALF, out.view(np.uint32))
    return out


def widen_float16(halves: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Read finite float16 as float32: (...) -> (...), exactly.

    Ten times as fast as NumPy's own conversion, but what is infinite or no number comes
    out finite: `hold_matrix` lets none in.
    """
    out = np.empty(halves.shape, np.float32) if out is None else out
    wide = out.view(np.int32)
    np.copyto(wide, halves.view(np.int16))  # the sign fills the bits above
    np.left_shift(wide, PLACE, out=wide)
    return _rebias(out)


def even_float16(words: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Read the lower halves, columns 0, 2, … : int32 (...) -> float32 (...)."""
    wide = out.view(np.int32)
    np.left_shift(words, np.int32(HALF_WORD), out=wide)
    np.right_shift(wide, TO_PLACE, out=wide)
    return _rebias(out)


def odd_float16(words: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Read the upper halves, columns 1, 3, … : int32 (...) -> float32 (...)."""
    np.right_shift(words, TO_PLACE, out=out.view(np.int32))
    return _rebias(out)


def _rebias(placed: np.ndarray) -> np.ndarray:
    """Clear what is beside the 16 bits in their place, and mend the exponent."""
    wide = placed.view(np.int32)
    np.bitwise_and(wide, PLACED, out=wide)
    return np.multiply(placed, REBIAS, out=placed)


def widen_by_numpy(numbers: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Read numbers as float32 as NumPy does: int8 still without the scale of its row."""
    np.copyto(out, numbers)
    return out


def as_it_is(numbers: np.ndarray, out: np.ndarray) -> np.ndarray:  # noqa: ARG001  a Widen
    """Give float32 back: nothing is to be done."""
    return numbers


BFLOAT16 = Format(widen_bfloat16, np.uint32, (even_bfloat16, odd_bfloat16))
FLOAT16 = Format(widen_float16, np.int32, (even_float16, odd_float16))
UNBOUNDED_FLOAT16 = Format(widen_by_numpy, None, (widen_by_numpy,))  # slow, but any
INT8 = Format(widen_by_numpy, None, (widen_by_numpy,))
FLOAT32 = Format(as_it_is, None, (as_it_is,))


def all_finite(halves: np.ndarray) -> bool:
    """Say whether float16 numbers are all finite, which their bits tell in no time.

    As int16 the largest positive one is on top, as uint16 the largest negative one.
    """
    return (
        int(halves.view(np.int16).max(initial=0)) < POSITIVE_INFINITY
        and int(halves.view(np.uint16).max(initial=0)) < NEGATIVE_INFINITY
    )


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
