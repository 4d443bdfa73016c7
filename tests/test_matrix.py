"""Matrices of 16 bits a number: every bit pattern, every rounding, every refusal."""

import math
import struct
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_paligemma.arrays import matrix
from numpy_paligemma.arrays.formats import (
    round_to_bfloat16,
    widen_bfloat16,
    widen_float16,
)
from numpy_paligemma.arrays.hold import hold_matrix, hold_vector, to_float16
from numpy_paligemma.arrays.matrix import TILE_NUMBERS, HeldMatrix

Widen = Callable[[np.ndarray], np.ndarray]
ALL = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)
KINDS = [("bfloat16", widen_bfloat16), ("float16", widen_float16)]


def halves(x: np.ndarray, kind: str) -> np.ndarray:
    """Round to 16 bits as the file holds them."""
    return round_to_bfloat16(x) if kind == "bfloat16" else x.astype(np.float16)


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


def test_all_patterns_of_float16_are_widened_to_their_number() -> None:
    expected = struct.unpack("<65536e", ALL.astype("<u2").tobytes())
    with np.errstate(invalid="ignore"):
        found = widen_float16(ALL.view(np.float16)).astype(np.float64)
    np.testing.assert_array_equal(found, expected)


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


@pytest.mark.parametrize(("kind", "widen"), KINDS)
@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (2, 1, 3)], ids=str)
def test_a_product_is_that_of_the_widened_matrix(
    kind: str, widen: Widen, leading: tuple[int, ...], rng: np.random.Generator
) -> None:
    stored = halves(rng.normal(size=(7, 5)).astype(np.float32), kind)
    x = rng.normal(size=(*leading, 5)).astype(np.float32)
    found = x @ HeldMatrix(stored, widen).T
    assert found.dtype == np.float32
    np.testing.assert_array_equal(
        found, (x.reshape(-1, 5) @ widen(stored).T).reshape(*leading, 7)
    )


@pytest.mark.parametrize(("kind", "widen"), KINDS)
@pytest.mark.parametrize("tile", [1, 10, 15, 34, 35, 1000])
def test_tiles_smaller_than_the_matrix_change_nothing(
    kind: str,
    widen: Widen,
    tile: int,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(matrix, "TILE_NUMBERS", tile)
    whole = rng.integers(-4, 5, (7, 5)).astype(np.float32)  # sums of these are exact
    x = rng.integers(-4, 5, (2, 3, 5)).astype(np.float32)
    np.testing.assert_array_equal(
        x @ HeldMatrix(halves(whole, kind), widen).T, x @ whole.T
    )


@pytest.mark.parametrize(("kind", "widen"), KINDS)
def test_rows_are_picked_by_ids_of_any_shape(
    kind: str, widen: Widen, rng: np.random.Generator
) -> None:
    stored = halves(rng.normal(size=(7, 5)).astype(np.float32), kind)
    ids = np.array([[6, 0, 0], [3, 2, 6]])
    found = HeldMatrix(stored, widen)[ids]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, widen(stored)[ids])


@pytest.mark.parametrize(
    "use",
    [
        lambda m, _: np.asarray(m),
        lambda m, x: x @ m,
        lambda m, x: x * m,
        lambda m, x: np.matmul(x, m),
        lambda m, x: np.add(x, m.T),
        lambda m, _: np.concatenate([m, m]),
    ],
    ids=["asarray", "untransposed", "times", "matmul", "add", "concatenate"],
)
def test_any_other_use_is_refused(use: Callable[..., object]) -> None:
    stored = HeldMatrix(np.zeros((4, 4), np.uint16), widen_bfloat16)
    with pytest.raises(TypeError):
        use(stored, np.ones((4, 4), np.float32))


def test_a_matrix_says_what_it_is_and_what_it_takes() -> None:
    stored = HeldMatrix(np.zeros((7, 5), np.uint16), widen_bfloat16)
    assert stored.shape == (7, 5)
    assert stored.nbytes == 70
    with pytest.raises(TypeError, match=r"multiplied as x @ w\.T or read as w\[ids\]"):
        np.asarray(stored)


@pytest.mark.parametrize("source", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("held", ["bfloat16", "float16", "float32", "float64"])
def test_a_number_that_every_dtype_has_is_held_exactly(source: str, held: str) -> None:
    numbers = np.array([[0, 1, -2.5], [0.125, 96, -3]], np.float32)
    stored = numbers if source == "float32" else halves(numbers, source)
    matrix, vector = hold_matrix(stored, held), hold_vector(stored, held)
    picked = matrix[np.array([0, 1])]
    wide = np.float64 if held == "float64" else np.float32
    assert picked.dtype == vector.dtype == wide
    np.testing.assert_array_equal(picked, numbers)
    np.testing.assert_array_equal(vector, numbers)


@pytest.mark.parametrize(
    ("source", "held"),
    [("bfloat16", "bfloat16"), ("float16", "float16"), ("float32", "float32")],
)
def test_what_the_file_has_so_is_not_copied(source: str, held: str) -> None:
    numbers = np.ones((3, 2), np.float32)
    stored = numbers if source == "float32" else halves(numbers, source)
    matrix = hold_matrix(stored, held)
    held_as = matrix.halves if isinstance(matrix, HeldMatrix) else matrix
    assert np.shares_memory(held_as, stored)


def test_a_matrix_of_many_rows_is_converted_like_one_of_few(
    rng: np.random.Generator,
) -> None:
    numbers = rng.normal(size=(2500, 1000)).astype(np.float32)
    found = hold_matrix(numbers, "bfloat16")
    assert isinstance(found, HeldMatrix)
    np.testing.assert_array_equal(found.halves, round_to_bfloat16(numbers))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("shape", [(40_000, 200), (200, 40_000)])
def test_converting_takes_the_source_the_result_and_a_little(
    shape: tuple[int, int], dtype: str
) -> None:
    stored = np.ones(shape, np.float32)  # 32 MB
    tracemalloc.start()
    held = hold_matrix(stored, dtype)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(held, HeldMatrix)
    assert peak < held.nbytes + 16 * TILE_NUMBERS  # bytes: 13 measured


def test_a_number_too_large_for_float16_is_refused_with_the_way_out() -> None:
    large = np.array([[1, 70000]], np.float32)
    told = (
        r"^float16 ends at 65504, the checkpoint holds 7e\+04; use bfloat16 or float32$"
    )
    with pytest.raises(ValueError, match=told):
        to_float16(large)
    assert np.isinf(to_float16(np.array([[np.inf]], np.float32)))  # it was there before
