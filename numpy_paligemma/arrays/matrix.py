"""A large weight as it is held, and the one place where it is multiplied.

The numbers stay in the form of the file, memory mapped, or in eight bits. A tile of rows
at a time becomes float32 in a processor's cache and is multiplied there, every core on
tiles of its own. Two ways lead through a tile:

- many rows of x (a prompt is read): the whole tile is widened, and one large product
  pays for it;
- few rows of x (a token is written): the weights are read once and hardly used, so what
  counts is how often they are touched on the way. A 16-bit tile is read as words of two
  columns, and even and odd columns are multiplied apart.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from numpy_paligemma.arrays.device_product import device_product
from numpy_paligemma.arrays.threads import one_blas_thread, scratch, unpacked_rows
from numpy_paligemma.model.parallel import cut, in_parallel, on_host, threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy_paligemma.arrays.formats import Format, Widen

TILE_NUMBERS = 1 << 19  # numbers widened at a time for many rows: 2 MB of float32
TILE_COLUMNS = 2048  # and their longest rows
FEW_NUMBERS = 3 << 18  # for few rows: a core's own cache nearly holds it
FEW = 24  # rows of x; above, widening whole tiles is faster
SMALL = 1 << 17  # numbers of a matrix that is soon widened whole
# below, waking another thread takes longer than it saves, about 0.1 ms
WORTH_FEW, WORTH_MANY = 1 << 20, 1 << 25  # numbers of the matrix; terms of the product
UNLOCKED = 512  # NumPy's matmul keeps Python's lock for results of 500 numbers or fewer


class HeldMatrix:
    """A matrix (out, in) held in 8, 16 or 32 bits a number, multiplied in float32.

    On a device, too, where `device_product` multiplies.

    Speaks the two operations of the model, ``x @ w.T`` and ``w[ids]``; anything else,
    `np.asarray` included, is refused, so that it is never widened whole unawares.

    Parameters
    ----------
    numbers : uint16 (bfloat16 bits), float16, int8 or float32 array, (out, in)
        May be a view of a memory-mapped file.
    form : Format
        The one that reads `numbers`.
    scales : float32 array, (out,), optional
        What each row is to be multiplied by; None for ones.
    """

    __array_ufunc__ = None  # NEP 13: ``ndarray @ this`` asks `__rmatmul__`
    __slots__ = ("form", "numbers", "scales")

    def __init__(
        self, numbers: np.ndarray, form: Format, scales: np.ndarray | None = None
    ) -> None:
        self.numbers = numbers
        self.form = form
        self.scales = scales

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes, (out, in)."""
        return self.numbers.shape

    @property
    def nbytes(self) -> int:
        """Bytes as held."""
        return self.numbers.nbytes + (0 if self.scales is None else self.scales.nbytes)

    @property
    def T(self) -> TransposedMatrix:
        """The transpose, to stand on the right of ``@``."""
        return TransposedMatrix(self)

    def __getitem__(self, ids: np.ndarray | slice) -> np.ndarray:
        """Pick rows: ids (...) -> float32 (..., in), where the matrix is."""
        if not isinstance(ids, slice):
            ids = np.asarray(ids, like=self.numbers)  # once, for numbers and scales
        picked = self.numbers[ids]
        room = np.empty(picked.shape, np.float32, like=picked)
        wide = self.form.widen(picked, room)
        if wide is picked and isinstance(ids, slice):
            wide = picked.copy()  # the held numbers stay ours
        return wide if self.scales is None else wide * self.scales[ids][..., None]

    def __array__(self, *_: object, **__: object) -> NoReturn:
        msg = "a held matrix is multiplied as x @ w.T or read as w[ids]"
        raise TypeError(msg)


class TransposedMatrix:
    """What stands on the right of ``x @ w.T``."""

    __array_ufunc__ = None
    __slots__ = ("matrix",)

    def __init__(self, matrix: HeldMatrix) -> None:
        self.matrix = matrix

    def __rmatmul__(self, x: np.ndarray) -> np.ndarray:
        """Multiply: float32 (..., in) -> float32 (..., out), where the matrix is.

        All leading axes of `x` are one for the product, so that a batch reads the
        matrix once.
        """
        w = self.matrix
        out_width, in_width = w.shape
        if x.shape[-1:] != (in_width,):
            msg = f"expected x (..., {in_width}) for w {w.shape}, found x {x.shape}"
            raise ValueError(msg)
        if x.dtype != np.float32:
            msg = f"expected float32, found {x.dtype}; a held matrix is multiplied in "
            raise TypeError(msg + "float32")
        here = on_host(w.numbers)
        flat = x.reshape(-1, in_width)
        if here:
            flat = np.ascontiguousarray(flat, np.float32)
        if w.numbers.size <= SMALL or not len(flat):
            out = flat @ w[:].T
        else:
            out = np.empty((len(flat), out_width), np.float32, like=w.numbers)
            on_cores = _few_rows if len(flat) <= FEW else _many_rows
            multiply = on_cores if here else device_product
            multiply(flat, w.numbers, w.form, out)
            if w.scales is not None:
                out *= w.scales
        return out.reshape(*x.shape[:-1], out_width)


def _in_words(
    numbers: np.ndarray, form: Format
) -> tuple[np.ndarray, tuple[Widen, ...]]:
    """View rows as words and give what reads each lane of them.

    Rows of an odd length are read number by number. Where in memory a matrix begins
    changes nothing: the same sums are taken in the same order.
    """
    if form.word is None:
        return numbers, form.lanes
    whole = (
        numbers.shape[1] % len(form.lanes) == 0
        and numbers.flags.c_contiguous
        and sys.byteorder == "little"
    )
    return (numbers.view(form.word), form.lanes) if whole else (numbers, (form.widen,))


def _many_rows(
    x: np.ndarray, numbers: np.ndarray, form: Format, out: np.ndarray
) -> None:
    """Multiply by whole tiles: x (M, in), numbers (N, in) -> out (M, N).

    Tiles are cut in both directions: BLAS rearranges all of x for each, which is cheap
    for many rows of the matrix at once, and a cache holds these if they are short.
    """
    out_width, in_width = numbers.shape
    columns = cut(in_width, _even(in_width, TILE_COLUMNS))
    step = _even(
        out_width,
        TILE_NUMBERS // columns[0].stop,
        threads() if len(x) * numbers.size >= WORTH_MANY else 1,
    )

    def multiply(parts: Iterator[slice]) -> None:
        buffer = scratch(step * columns[0].stop)
        for rows in parts:
            for k in columns:
                held = numbers[rows, k]
                wide = form.widen(held, buffer[: held.size].reshape(held.shape))
                if k.start == 0:
                    np.matmul(x[:, k], wide.T, out=out[:, rows])
                else:
                    out[:, rows] += x[:, k] @ wide.T

    _share_out(multiply, cut(out_width, step))


def _few_rows(
    x: np.ndarray, numbers: np.ndarray, form: Format, out: np.ndarray
) -> None:
    """Multiply lane by lane: x (M, in), numbers (N, in) -> out (M, N)."""
    words, lanes = _in_words(numbers, form)
    parts_of_x = [
        np.ascontiguousarray(x[:, i :: len(lanes)]) for i in range(len(lanes))
    ]
    sums = [out, *(np.empty_like(out) for _ in lanes[1:])]
    out_width, length = words.shape
    groups = threads() if numbers.size >= WORTH_FEW else 1
    step = _even(out_width, FEW_NUMBERS // numbers.shape[1], groups)
    if len(x) > 1:
        step = max(step, UNLOCKED // len(x))
    todo = list(zip(lanes, parts_of_x, sums, strict=True))

    def multiply(parts: Iterator[slice]) -> None:
        buffer = scratch(step * length).reshape(step, length)
        for rows in parts:
            held = words[rows]
            wide = buffer[: len(held)]
            for read, part, into in todo:
                _thin_product(part, read(held, wide), into[:, rows])

    _share_out(multiply, cut(out_width, step))
    for other in sums[1:]:
        out += other


def _share_out(work: Callable[[Iterator[slice]], object], parts: list[slice]) -> None:
    """Share tiles out, with BLAS held to one thread if there are several."""
    if len(parts) == 1:
        work(iter(parts))
        return
    with one_blas_thread():
        in_parallel(work, parts)


def _thin_product(x: np.ndarray, wide: np.ndarray, out: np.ndarray) -> None:
    """Multiply few rows: x (M, K), wide (n, K) -> out (M, n)."""
    if len(x) == 1:
        np.dot(wide, x[0], out[0])
        return
    n, K = wide.shape
    at_once = unpacked_rows(len(x) * K)
    whole = n - n % at_once
    stacked = wide[:whole].reshape(-1, at_once, K)
    into = out[:, :whole].reshape(len(x), -1, at_once).transpose(1, 2, 0)
    np.matmul(stacked, x.T, out=into)
    np.matmul(x, wide[whole:].T, out=out[:, whole:])


def _even(length: int, most: int, groups: int = 1) -> int:
    """Choose a step that cuts `length` evenly, `most` at the most, for all of `groups`."""
    parts = -(-length // max(1, most))
    parts += -parts % groups
    return -(-length // parts)
