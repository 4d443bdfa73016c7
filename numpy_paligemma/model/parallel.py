"""All cores for one leaf: its work cut into parts, and each thread takes the next.

NumPy lets go of Python's lock while it computes, so threads do. Nothing here decides
how many: without `use_threads` everything runs in the thread that calls.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np

BLOCK = 1 << 16  # numbers: with what is made of them, a core's cache holds them
FEWEST_ROWS = 64  # of a product: fewer are not worth handing over

_helpers: list[ThreadPoolExecutor] = []  # one pool, or none
_size = [1]


def use_threads(count: int) -> None:
    """Take `count` threads for every leaf from now on, the calling one among them."""
    for pool in _helpers:
        pool.shutdown()
    _helpers[:] = [ThreadPoolExecutor(count - 1)] if count > 1 else []
    _size[0] = count


def threads() -> int:
    """Say how many threads a leaf may take."""
    return _size[0]


def in_parallel(
    work: Callable[[Iterator[slice]], object], parts: Sequence[slice]
) -> None:
    """Share `parts` out: every thread calls `work` once, and gets those it is to do.

    Which thread does which part is left to chance; what one raises is raised here.
    """
    left = deque(parts)
    helpers = min(threads(), len(left)) - 1
    started = [
        pool.submit(work, _taken(left)) for pool in _helpers for _ in range(helpers)
    ]
    try:
        work(_taken(left))
    finally:
        left.clear()  # after Ctrl-C nobody takes another
        wait(started)
    for future in started:
        future.result()


def _taken(left: deque[slice]) -> Iterator[slice]:
    """Take from what is left until nothing is; several threads may at once."""
    while True:
        try:
            yield left.popleft()
        except IndexError:
            return


def cut(length: int, step: int) -> list[slice]:
    """Cut ``range(length)`` into slices of `step`, the last one perhaps shorter."""
    return [slice(i, min(i + step, length)) for i in range(0, length, step)]


def over_rows(
    work: Callable[[np.ndarray, np.ndarray], object], x: np.ndarray, out: np.ndarray
) -> None:
    """Call ``work(x, out)`` on blocks of rows, all axes but the last taken as one.

    A block is small enough for a core's cache, so that a work of many steps fetches
    its numbers once. `out` is contiguous.
    """
    width = x.shape[-1]
    x, out = x.reshape(-1, width), out.reshape(-1, width)

    def each(parts: Iterator[slice]) -> None:
        for rows in parts:
            work(x[rows], out[rows])

    in_parallel(each, cut(len(x), max(1, BLOCK // width)))


def stacked_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Multiply stacks of matrices, ``a @ b``: (..., R, H), (..., H, S) -> (..., R, S)."""
    R = a.shape[-2]
    out = np.empty((*a.shape[:-1], b.shape[-1]), a.dtype, like=a)

    def each(parts: Iterator[slice]) -> None:
        for rows in parts:
            np.matmul(a[..., rows, :], b, out=out[..., rows, :])

    in_parallel(each, cut(R, max(FEWEST_ROWS, -(-R // threads()))))
    return out
