"""How a tensor becomes a weight: exactly, or rounded as said, and in little memory."""

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from numpy_paligemma.arrays import hold
from numpy_paligemma.arrays.formats import (
    FLOAT16,
    FLOAT32,
    UNBOUNDED_FLOAT16,
    round_to_bfloat16,
)
from numpy_paligemma.arrays.hold import (
    HELD_DTYPES,
    INT8_MOST,
    LARGE,
    hold_matrix,
    hold_vector,
    to_float16,
    to_float32,
)
from numpy_paligemma.arrays.matrix import HeldMatrix

SOURCES = {
    "bfloat16": round_to_bfloat16,
    "float16": lambda x: x.astype(np.float16),
    "float32": lambda x: x,
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("held", ["bfloat16", "float16", "float32", "float64"])
def test_a_number_that_every_dtype_has_is_held_exactly(source: str, held: str) -> None:
    numbers = np.array([[0, 1, -2.5], [0.125, 96, -3]], np.float32)
    stored = SOURCES[source](numbers)
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
    stored = SOURCES[source](numbers)
    matrix = hold_matrix(stored, held)
    held_as = matrix.numbers if isinstance(matrix, HeldMatrix) else matrix
    assert np.shares_memory(held_as, stored)


def test_a_matrix_of_many_rows_is_converted_like_one_of_few(
    rng: np.random.Generator,
) -> None:
    numbers = rng.normal(size=(2500, 1000)).astype(np.float32)
    found = hold_matrix(numbers, "bfloat16")
    assert isinstance(found, HeldMatrix)
    np.testing.assert_array_equal(found.numbers, round_to_bfloat16(numbers))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8"])
@pytest.mark.parametrize("shape", [(40_000, 200), (200, 40_000)])
def test_converting_takes_the_source_the_result_and_a_little(
    shape: tuple[int, int],
    dtype: str,
    threads: int,
    take_threads: Callable[[int], None],
) -> None:
    take_threads(threads)
    stored = np.ones(shape, np.float32)  # 32 MB
    tracemalloc.start()
    held = hold_matrix(stored, dtype)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(held, HeldMatrix)
    # bytes a number: 12 measured
    assert peak < held.nbytes + 16 * threads * hold.CONVERTED


def test_a_number_too_large_for_float16_is_refused_with_the_way_out() -> None:
    large = np.array([[1, 70000]], np.float32)
    told = (
        r"^float16 ends at 65504, the checkpoint holds 7e\+04; use bfloat16 or float32$"
    )
    with pytest.raises(ValueError, match=told):
        to_float16(large)
    assert np.isinf(to_float16(np.array([[np.inf]], np.float32)))  # it was there before


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("dtype", HELD_DTYPES)
@pytest.mark.parametrize("threads", [1, 3])
def test_blocks_of_rows_on_any_number_of_threads_change_nothing(
    source: str,
    dtype: str,
    threads: int,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    take_threads: Callable[[int], None],
) -> None:
    stored = SOURCES[source](rng.normal(size=(11, 6)).astype(np.float32))
    take_threads(1)
    at_once = hold_matrix(stored, dtype)[:]
    take_threads(threads)
    monkeypatch.setattr(hold, "CONVERTED", 13)  # two rows
    np.testing.assert_array_equal(hold_matrix(stored, dtype)[:], at_once)


def test_a_large_float32_matrix_is_cut_into_tiles_and_a_small_one_is_an_array() -> None:
    stored = np.zeros((LARGE // 512, 512), np.float32)
    large, small = (hold_matrix(x, "float32") for x in (stored, stored[1:]))
    assert isinstance(large, HeldMatrix)
    assert large.form is FLOAT32
    assert isinstance(small, np.ndarray)
    assert isinstance(hold_matrix(stored, "float64"), np.ndarray)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_float16_with_what_is_no_number_keeps_it(bad: float) -> None:
    sound = np.array([[1, 2], [3, 4]], np.float16)
    found = hold_matrix(sound, "float16")
    assert isinstance(found, HeldMatrix)
    assert found.form is FLOAT16
    broken = sound.copy()
    broken[1, 0] = bad
    for stored in [broken, broken.astype(np.float32)]:
        found = hold_matrix(stored, "float16")
        assert isinstance(found, HeldMatrix)
        assert found.form is UNBOUNDED_FLOAT16
        np.testing.assert_array_equal(found[:], broken)
        x = np.ones((1, 2), np.float32)
        np.testing.assert_array_equal(x @ found.T, x @ broken.astype(np.float32).T)


# --- eight bits -----------------------------------------------------------------------


def in_eight_bits(stored: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hold in eight bits; codes, scales and what they stand for."""
    found = hold_matrix(stored, "int8")
    assert isinstance(found, HeldMatrix)
    assert found.scales is not None
    assert found.numbers.dtype == np.int8
    assert found.scales.dtype == np.float32
    return found.numbers, found.scales, found[:]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("size", [1e-30, 0.02, 1, 300])
def test_eight_bits_are_off_by_half_a_step_at_most(
    source: str, size: float, rng: np.random.Generator
) -> None:
    if source == "float16" and size < 1e-7:
        size = 1e-4
    spread = rng.uniform(0.1, 1, (40, 1)) * size  # no two rows have one scale
    drawn = (rng.normal(size=(40, 300)) * spread).astype(np.float32)
    stored = SOURCES[source](drawn)
    wide = to_float32(stored).astype(np.float64)
    codes, scales, found = in_eight_bits(stored)
    largest = np.abs(wide).max(axis=1)
    np.testing.assert_allclose(scales, largest / INT8_MOST, rtol=1e-6)
    assert (np.abs(codes.astype(int)).max(axis=1) == INT8_MOST).all()
    off = np.abs(found - wide) / scales[:, None]
    assert 0.45 < off.max() < 0.5 + 1e-4


def test_a_negative_largest_number_sets_the_scale_too() -> None:
    codes, scales, found = in_eight_bits(
        np.array([[-254, 127], [254, -127]], np.float32)
    )
    assert scales.tolist() == [2, 2]
    assert codes.tolist() == [[-127, 64], [127, -64]]  # 63.5: to the even one
    assert found.tolist() == [[-254, 128], [254, -128]]


def test_rows_of_nothing_and_of_one_number() -> None:
    codes, scales, found = in_eight_bits(np.array([[0, 0], [-0.0, 0]], np.float32))
    assert not codes.any()
    assert not scales.any()
    assert not found.any()
    stored = np.array([[0.7], [-3], [0]], np.float32)
    codes, _, found = in_eight_bits(stored)
    assert codes.tolist() == [[127], [-127], [0]]
    np.testing.assert_allclose(found, stored, rtol=1e-6)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_is_no_number_shows_in_its_row_alone(source: str, bad: float) -> None:
    drawn = np.array([[1, 2, 3], [4, bad, 6], [7, 8, 9]], np.float32)
    found = hold_matrix(SOURCES[source](drawn), "int8")
    product = np.ones((1, 3), np.float32) @ found.T
    assert np.isfinite(product).tolist() == [[True, False, True]]
    assert np.isfinite(found[np.array([0, 2])]).all()
    assert not np.isfinite(found[np.array([1])]).any()


def test_eight_bits_of_the_smallest_numbers_are_finite() -> None:
    """Subnormal rows, whose scale is nought or nearly."""
    tiny = np.array([[1e-45, 0], [3e-43, 1e-43]], np.float32)
    _, _, found = in_eight_bits(tiny)
    assert np.abs(found - tiny).max() < 1e-43


def test_eight_bits_of_subnormal_numbers_keep_their_sign() -> None:
    row = np.array([[190 * 1.4e-45, -190 * 1.4e-45]], np.float32)
    codes = hold_matrix(row, "int8").numbers
    np.testing.assert_array_equal(np.sign(codes), [[1, -1]])
