"""All cores for one leaf: its work cut into parts, and each thread takes the next.

NumPy lets go of Python's lock while it computes, so threads do. Nothing here decides
how many: without `use_threads` everything runs in the thread that calls.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress

import numpy as np

BLOCK = 1 << 16  # numbers that a core's cache holds while a work takes many steps
FEWEST_ROWS = 64  # of a product: fewer are not worth handing over

_helpers: list[ThreadPoolExecutor] = []  # of one thread each


def use_threads(count: int) -> None:
    """Take `count` threads for every leaf from now on, the calling one among them."""
    _helpers[:] = [ThreadPoolExecutor(1) for _ in range(count - 1)]


def threads() -> int:
    """Say how many threads a leaf may take."""
    return 1 + len(_helpers)


def cut(length: int, step: int) -> list[slice]:
    """Cut ``range(length)`` into slices of `step`, the last one perhaps shorter."""
    return [slice(i, min(i + step, length)) for i in range(0, length, step)]


def on_host(x: np.ndarray) -> bool:
    """Say whether `x` is NumPy's own: a device has cores of its own, and no parts."""
    return isinstance(x, np.ndarray)


def in_parallel(
    work: Callable[[Iterator[slice]], object], parts: Sequence[slice]
) -> None:
    """Share `parts` out by chance: each thread calls `work` once, on those it gets."""
    left = deque(parts)
    started: list[Future[object]] = []
    for helper in _helpers[: len(left) - 1]:
        with suppress(RuntimeError):  # no thread begins once the interpreter ends
            started.append(helper.submit(work, _taken(left)))
    try:
        work(_taken(left))
    finally:
        left.clear()  # after Ctrl-C nobody takes another
        begun = [future for future in started if not future.cancel()]
        wait(begun)  # and not for who is busy elsewhere, perhaps around this
    for future in begun:
        future.result()


def _taken(left: deque[slice]) -> Iterator[slice]:
    """Take from what is left until nothing is; several threads may at once."""
    while True:
        try:
            yield left.popleft()
        except IndexError:
            return


def over_rows(
    work: Callable[[np.ndarray, np.ndarray], object], x: np.ndarray
) -> np.ndarray:
    """Make an array like `x` by ``work(x, out)`` on small blocks of their rows."""
    out = np.empty(x.shape, x.dtype, like=x)
    if x.size <= BLOCK or not on_host(x):
        work(x, out)
        return out
    flat, into = x.reshape(-1, x.shape[-1]), out.reshape(-1, x.shape[-1])

    def each(parts: Iterator[slice]) -> None:
        for rows in parts:
            work(flat[rows], into[rows])

    in_parallel(each, cut(len(flat), BLOCK // x.shape[-1] or 1))
    return out


def stacked_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Multiply stacks of matrices, ``a @ b``: (..., R, H), (..., H, S) -> (..., R, S)."""
    if a.shape[-2] <= FEWEST_ROWS or not on_host(a):
        return a @ b
    out = np.empty((*a.shape[:-1], b.shape[-1]), a.dtype, like=a)

    def each(parts: Iterator[slice]) -> None:
        for rows in parts:
            np.matmul(a[..., rows, :], b, out=out[..., rows, :])

    in_parallel(each, cut(a.shape[-2], max(FEWEST_ROWS, -(-a.shape[-2] // threads()))))
    return out
