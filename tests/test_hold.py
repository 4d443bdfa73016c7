"""How a tensor becomes a weight: exactly, or rounded as said, and in little memory."""

import tracemalloc

import numpy as np
import pytest

from numpy_paligemma.arrays.formats import (
    round_to_bfloat16,
)
from numpy_paligemma.arrays.hold import hold_matrix, hold_vector, to_float16
from numpy_paligemma.arrays.matrix import TILE_NUMBERS, HeldMatrix

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
