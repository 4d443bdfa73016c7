"""What this machine can do at most: the two rates that bound every layer.

A layer takes at least its arithmetic over the rate of a matrix product, and at least
its bytes over the rate at which memory is read. Both are measured with NumPy itself.

References
----------
Williams, Waterman and Patterson (2009), https://doi.org/10.1145/1498765.1498785.
"""

import time
from collections.abc import Callable

import numpy as np

WIDTH = 2048  # of a row, as in the Gemma of the 3B checkpoints
PRODUCT_ROWS = 8192  # of the matrix that is multiplied: 67 MB
READ_ROWS = 32768  # of the matrix that is read: 268 MB, far beyond any cache
SECONDS = 0.4  # how long each is tried


def sgemm_rate(rows: int = 260) -> float:
    """Measure a float32 matrix product on all the cores that NumPy's BLAS takes.

    Parameters
    ----------
    rows : int
        Of the left factor, (rows, 2048), whose right one is (2048, 8192). 260 are a
        picture of 224 pixels and a short prompt.

    Returns
    -------
    float, FLOP/s
        A multiplication and an addition are two; the best of what 0.4 s hold.
    """
    x, w = _numbers(rows), _numbers(PRODUCT_ROWS)
    out = np.empty((rows, PRODUCT_ROWS), np.float32)
    return 2 * rows * w.size / _best_seconds(lambda: np.matmul(x, w.T, out=out))


def memory_rate() -> float:
    """Measure a float32 matrix-vector product, which reads a matrix once.

    Returns
    -------
    float, bytes/s
        The best of what 0.4 s hold, on all the cores that NumPy's BLAS takes.
    """
    w, x = _numbers(READ_ROWS), _numbers(1)[0]
    return w.nbytes / _best_seconds(lambda: np.matmul(w, x))


def _numbers(rows: int) -> np.ndarray:
    """Make a matrix, (rows, 2048), of the same random row again and again."""
    row = np.random.default_rng(0).standard_normal(WIDTH, np.float32)
    return np.tile(row, (rows, 1))


def _best_seconds(run: Callable[[], object]) -> float:
    """Run once to wake BLAS up, then until the time is up: the shortest run."""
    run()
    taken: list[float] = []
    end = time.perf_counter() + SECONDS
    while not taken or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return min(taken)
