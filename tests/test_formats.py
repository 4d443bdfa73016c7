"""Number formats: every bit pattern by every way of reading it, every rounding."""

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_paligemma.arrays.formats import (
    BFLOAT16,
    FLOAT16,
    Format,
    all_finite,
    round_to_bfloat16,
    widen_bfloat16,
    widen_by_numpy,
    widen_float16,
)

ALL = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)


def bfloat16_value(bits: int) -> float:
    """Work a pattern's number out from its sign, exponent and fraction."""
    sign = -1.0 if bits >> 15 else 1.0
    exponent, fraction = bits >> 7 & 0xFF, bits & 0x7F
    if exponent == 0xFF:
        return math.nan if fraction else sign * math.inf
    if exponent == 0:
        return sign * math.ldexp(fraction, -133)
    return sign * math.ldexp(128 + fraction, exponent - 134)


def test_all_patterns_of_bfloat16_are_widened_to_their_number() -> None:
    expected = np.array([bfloat16_value(int(bits)) for bits in ALL])
    with np.errstate(invalid="ignore"):  # the signalling NaNs, as they become float64
        np.testing.assert_array_equal(widen_bfloat16(ALL).astype(np.float64), expected)
    zeros = widen_bfloat16(np.array([0x0000, 0x8000], np.uint16))
    assert np.signbit(zeros).tolist() == [False, True]


def float16_values() -> np.ndarray:
    """Work all patterns' numbers out by the standard library."""
    with np.errstate(invalid="ignore"):
        return np.array(struct.unpack("<65536e", ALL.astype("<u2").tobytes()))


def test_all_finite_patterns_of_float16_are_widened_to_their_number() -> None:
    expected = float16_values()
    finite = np.isfinite(expected)
    assert finite.sum() == 2 * 31 * 1024
    found = widen_float16(ALL.view(np.float16)[finite])
    np.testing.assert_array_equal(found.astype(np.float64), expected[finite])
    np.testing.assert_array_equal(np.signbit(found), ALL[finite] >> 15)


def test_numpy_widens_what_float16_has_besides_numbers() -> None:
    found = np.empty(1 << 16, np.float32)
    with np.errstate(invalid="ignore"):
        widen_by_numpy(ALL.view(np.float16), found)
        expected = float16_values().astype(np.float32)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("offset", [0, 1], ids=["even", "odd"])
@pytest.mark.parametrize(
    ("form", "dtype"),
    [(BFLOAT16, np.uint16), (FLOAT16, np.float16)],
    ids=["bfloat16", "float16"],
)
def test_both_lanes_read_what_the_whole_reads(
    form: Format, dtype: type, offset: int
) -> None:
    """Every pattern beside a neighbour of other bits, in the upper lane and the lower."""
    beside = np.stack([ALL, np.random.default_rng(0).permutation(ALL)], -1)
    halves = np.roll(beside, offset, -1).reshape(256, -1)
    whole = np.empty(halves.shape, np.float32)
    form.widen(halves.view(dtype), whole)
    for lane, read in enumerate(form.lanes):
        out = np.full((256, 256), np.nan, np.float32)
        assert read(halves.view(form.word), out) is out
        np.testing.assert_array_equal(
            out.view(np.uint32), whole[:, lane::2].view(np.uint32)
        )


@pytest.mark.parametrize(
    ("form", "dtype"),
    [(BFLOAT16, np.uint16), (FLOAT16, np.float16)],
    ids=["bfloat16", "float16"],
)
def test_widening_leaves_what_it_reads_alone(form: Format, dtype: type) -> None:
    halves = ALL.copy().reshape(2, -1)
    form.widen(halves.view(dtype), np.empty(halves.shape, np.float32))
    for read in form.lanes:
        read(halves.view(form.word), np.empty((2, 1 << 14), np.float32))
    np.testing.assert_array_equal(halves.reshape(-1), ALL)


@pytest.mark.parametrize("bad", [0x7C00, 0xFC00, 0x7C01, 0xFC01, 0x7FFF, 0xFFFF])
@pytest.mark.parametrize("place", [0, -1])
def test_one_pattern_that_is_no_number_is_found(bad: int, place: int) -> None:
    halves = np.array([0x7BFF, 0xFBFF, 0x0000, 0x8000, 0x0001], np.uint16)
    assert all_finite(halves.view(np.float16))
    halves[place] = bad
    assert not all_finite(halves.view(np.float16))


def test_no_numbers_at_all_are_finite() -> None:
    assert all_finite(np.empty((0, 3), np.float16))


def test_every_bfloat16_survives_the_round_trip() -> None:
    wide = widen_bfloat16(ALL)
    numbers = ~np.isnan(wide)
    np.testing.assert_array_equal(round_to_bfloat16(wide)[numbers], ALL[numbers])


@given(st.integers(0, 0x7F7E), st.integers(0, 0xFFFF), st.booleans())
def test_rounding_takes_the_nearest_and_of_two_the_even(
    bits: int, below: int, negative: bool
) -> None:
    down, up = bfloat16_value(bits), bfloat16_value(bits + 1)
    x = down + (up - down) * below / 65536  # exact in float64, and in float32
    middle = (down + up) / 2
    even = bits + (bits & 1)
    nearest = bits if x < middle else bits + 1 if x > middle else even
    signed = np.array([-x if negative else x], np.float32)
    assert round_to_bfloat16(signed)[0] == nearest | negative << 15


@pytest.mark.parametrize("below", [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
def test_rounding_agrees_with_ml_dtypes_on_every_upper_half(below: int) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = (ALL.astype(np.uint32) << 16 | below).view(np.float32)
    numbers = ~np.isnan(x)
    with np.errstate(invalid="ignore", over="ignore"):
        expected = x.astype(ml_dtypes.bfloat16).view(np.uint16)
    np.testing.assert_array_equal(round_to_bfloat16(x)[numbers], expected[numbers])


def test_beyond_the_largest_bfloat16_lies_infinity() -> None:
    largest = bfloat16_value(0x7F7F)
    half_a_step = math.ldexp(1, 127 - 8)
    beyond = np.array([largest + half_a_step, -np.inf], np.float32)
    assert round_to_bfloat16(beyond).tolist() == [0x7F80, 0xFF80]
    below = np.nextafter(beyond[:1], np.float32(0))
    assert round_to_bfloat16(below).tolist() == [0x7F7F]


def test_no_nan_is_rounded_to_infinity_or_nought() -> None:
    patterns = [0x7F800001, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF, 0x7FC00000]
    nans = np.array(patterns, np.uint32).view(np.float32)
    assert np.isnan(widen_bfloat16(round_to_bfloat16(nans))).all()
