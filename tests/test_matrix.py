"""Held matrices: a product is the same however its numbers lie and are cut."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from tolerances import FLOAT32_TAPS, relative_error

from numpy_paligemma.arrays import matrix
from numpy_paligemma.arrays.formats import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    INT8,
    UNBOUNDED_FLOAT16,
    Format,
    round_to_bfloat16,
)
from numpy_paligemma.arrays.hold import hold_matrix
from numpy_paligemma.arrays.matrix import FEW, HeldMatrix


class Kind(NamedTuple):
    """A form, and how whole numbers become it."""

    form: Format
    store: Callable[[np.ndarray], np.ndarray]


KINDS = {
    "bfloat16": Kind(BFLOAT16, round_to_bfloat16),
    "float16": Kind(FLOAT16, lambda x: x.astype(np.float16)),
    "unbounded float16": Kind(UNBOUNDED_FLOAT16, lambda x: x.astype(np.float16)),
    "int8": Kind(INT8, lambda x: x.astype(np.int8)),
    "float32": Kind(FLOAT32, lambda x: x.astype(np.float32)),
}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def _nothing_is_small(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cut and share out the matrices of these tests as if they were large."""
    for name in ["SMALL", "WORTH_FEW", "WORTH_MANY"]:
        monkeypatch.setattr(matrix, name, 0)


def whole(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Draw whole numbers whose products and sums float32 has exactly."""
    return rng.integers(-9, 10, shape).astype(np.float32)


def held(numbers: np.ndarray, kind: str) -> HeldMatrix:
    form, store = KINDS[kind]
    return HeldMatrix(store(numbers), form)


def at_an_odd_place(w: np.ndarray) -> np.ndarray:
    """Copy a matrix to one number behind the place where words begin."""
    room = np.empty(w.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64 + w.dtype.itemsize
    moved = room[start : start + w.nbytes].view(w.dtype).reshape(w.shape)
    moved[:] = w
    return moved


@EVERY_KIND
@pytest.mark.parametrize("width", [1, 2, 5, 8, 33])
@pytest.mark.parametrize("rows", [0, 1, 2, 3, FEW, FEW + 1, 70])
def test_a_product_is_that_of_the_numbers(
    kind: str, width: int, rows: int, rng: np.random.Generator
) -> None:
    w, x = whole(rng, 7, width), whole(rng, rows, width)
    found = x @ held(w, kind).T
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, x @ w.T)


@EVERY_KIND
@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (5, 6), (2, 1, 3), (2, 0)])
def test_every_leading_axis_stays(
    kind: str, leading: tuple[int, ...], rng: np.random.Generator
) -> None:
    w, x = whole(rng, 7, 6), whole(rng, *leading, 6)
    found = x @ held(w, kind).T
    assert found.shape == (*leading, 7)
    np.testing.assert_array_equal(found, x @ w.T)


@EVERY_KIND
@pytest.mark.parametrize("threads", [1, 2, 3, 64])
@pytest.mark.parametrize("tile", [1, 10, 34, 100])
@pytest.mark.parametrize("rows", [1, 3, 30])
def test_tiles_smaller_than_the_matrix_change_nothing(
    kind: str,
    threads: int,
    tile: int,
    rows: int,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    take_threads: Callable[[int], None],
) -> None:
    monkeypatch.setattr(matrix, "TILE_NUMBERS", tile)
    monkeypatch.setattr(matrix, "TILE_COLUMNS", max(2, tile // 3))
    monkeypatch.setattr(matrix, "FEW_NUMBERS", tile)
    monkeypatch.setattr(matrix, "UNLOCKED", 1)
    monkeypatch.setattr(matrix, "unpacked_rows", lambda _: 2)
    take_threads(threads)
    w, x = whole(rng, 23, 14), whole(rng, rows, 14)
    np.testing.assert_array_equal(x @ held(w, kind).T, x @ w.T)


@EVERY_KIND
@pytest.mark.parametrize("rows", [1, 4, 30])
@pytest.mark.parametrize(
    "view",
    [
        lambda w: w[:, 1:-1],
        lambda w: w[::2],
        lambda w: w[::-1],
        lambda w: w[:, ::2],
        np.asfortranarray,
        at_an_odd_place,
    ],
    ids=[
        "inner",
        "every other",
        "backwards",
        "every other column",
        "by columns",
        "odd",
    ],
)
def test_rows_may_lie_anywhere(
    kind: str,
    rows: int,
    view: Callable[[np.ndarray], np.ndarray],
    rng: np.random.Generator,
) -> None:
    w = whole(rng, 8, 12)
    x = whole(rng, rows, view(w).shape[1])
    whole_one = held(w, kind)
    seen = HeldMatrix(view(whole_one.numbers), whole_one.form)
    np.testing.assert_array_equal(x @ seen.T, x @ view(w).T)
    np.testing.assert_array_equal(seen[np.array([1, 0])], view(w)[[1, 0]])


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
@pytest.mark.parametrize("rows", [1, 4, 30])
def test_where_a_matrix_begins_does_not_show_in_the_last_bit(
    kind: str, rows: int, rng: np.random.Generator
) -> None:
    there = held(rng.normal(size=(40, 600)).astype(np.float32), kind)
    here = HeldMatrix(at_an_odd_place(there.numbers), there.form)
    x = rng.normal(size=(rows, 600)).astype(np.float32)
    np.testing.assert_array_equal(x @ here.T, x @ there.T)


@EVERY_KIND
@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[:, ::2],
        lambda x: x[::-1, :6],
        lambda x: np.asfortranarray(x)[:, :6],
    ],
    ids=["every other", "backwards", "by columns"],
)
@pytest.mark.parametrize("rows", [1, 4, 30])
def test_vectors_may_lie_anywhere_and_are_not_written_to(
    kind: str,
    rows: int,
    view: Callable[[np.ndarray], np.ndarray],
    rng: np.random.Generator,
) -> None:
    w, x = whole(rng, 7, 6), view(whole(rng, rows, 12))
    before = x.copy()
    np.testing.assert_array_equal(x @ held(w, kind).T, x @ w.T)
    np.testing.assert_array_equal(x, before)


@EVERY_KIND
@pytest.mark.parametrize("rows", [1, 4, 30])
def test_a_scale_is_that_of_its_row(
    kind: str, rows: int, rng: np.random.Generator
) -> None:
    w, x = whole(rng, 7, 6), whole(rng, rows, 6)
    scales = 2.0 ** np.arange(-3, 4, dtype=np.float32)
    scaled = held(w, kind)
    scaled.scales = scales
    wide = w * scales[:, None]
    np.testing.assert_array_equal(x @ scaled.T, x @ wide.T)
    for ids in [np.array(5), np.array([5, 0, 5]), np.array([[1, 2], [3, 6]])]:
        np.testing.assert_array_equal(scaled[ids], wide[ids])
    np.testing.assert_array_equal(scaled[2:5], wide[2:5])
    np.testing.assert_array_equal(scaled[:], wide)


@EVERY_KIND
def test_rows_are_picked_by_ids_of_any_shape_and_are_copies(
    kind: str, rng: np.random.Generator
) -> None:
    w = whole(rng, 7, 5)
    stored = held(w, kind)
    for ids in [np.array([[6, 0, 0], [3, 2, 6]]), np.array([], int), np.array(-1)]:
        found = stored[ids]
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, w[ids])
        found[...] = 77
    np.testing.assert_array_equal(stored[np.arange(7)], w)


@EVERY_KIND
@pytest.mark.parametrize("rows", [1, 4, 30])
def test_a_small_matrix_is_widened_whole(
    kind: str,
    rows: int,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(matrix, "SMALL", 42)
    monkeypatch.setattr(matrix, "cut", None)  # no tiles
    w, x = whole(rng, 7, 6), whole(rng, rows, 6)
    scales = 2.0 ** np.arange(-3, 4, dtype=np.float32)
    scaled = HeldMatrix(held(w, kind).numbers, KINDS[kind].form, scales)
    np.testing.assert_array_equal(x @ scaled.T, x @ (w * scales[:, None]).T)


@EVERY_KIND
@pytest.mark.parametrize("rows", [1, 8, 200])
def test_a_large_product_is_right_to_rounding_on_any_number_of_threads(
    kind: str,
    rows: int,
    rng: np.random.Generator,
    take_threads: Callable[[int], None],
) -> None:
    """As many rows and columns as take several tiles, of sizes that nothing divides."""
    w = rng.integers(-127, 128, (1031, 1538)).astype(np.float32)
    x = rng.normal(size=(rows, 1538)).astype(np.float32)
    expected = x.astype(np.float64) @ w.T.astype(np.float64)
    stored = held(w, kind)
    for threads in [1, 2, 64]:
        take_threads(threads)
        found = x @ stored.T
        assert relative_error(found, expected) < FLOAT32_TAPS
        # to the bit, whichever thread took which tile
        np.testing.assert_array_equal(x @ stored.T, found)


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
    stored = HeldMatrix(np.zeros((4, 4), np.uint16), BFLOAT16)
    with pytest.raises(TypeError):
        use(stored, np.ones((4, 4), np.float32))


def test_a_matrix_says_what_it_is_and_what_it_takes() -> None:
    stored = HeldMatrix(np.zeros((7, 5), np.uint16), BFLOAT16)
    assert stored.shape == (7, 5)
    assert stored.nbytes == 70
    scaled = HeldMatrix(np.zeros((7, 5), np.int8), INT8, np.ones(7, np.float32))
    assert scaled.nbytes == 35 + 28
    with pytest.raises(TypeError, match=r"multiplied as x @ w\.T or read as w\[ids\]"):
        np.asarray(stored)


def test_what_does_not_fit_a_product_is_refused_in_words() -> None:
    w = hold_matrix(np.ones((5, 4), np.float32), "bfloat16")
    with pytest.raises(TypeError, match=r"^expected float32, found float64; a held"):
        np.ones((3, 4)) @ w.T
    told = r"^expected x \(\.\.\., 4\) for w \(5, 4\), found x \(2, 8\)$"
    with pytest.raises(ValueError, match=told):
        np.ones((2, 8), np.float32) @ w.T


def test_a_slice_of_float32_is_a_copy() -> None:
    numbers = np.ones((5, 4), np.float32)
    assert not np.shares_memory(HeldMatrix(numbers, FLOAT32)[:], numbers)
