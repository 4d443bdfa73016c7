"""The machine's two rates: what is counted, and over which time."""

import time
from collections.abc import Iterator
from itertools import accumulate, cycle

import numpy as np
import pytest

from numpy_paligemma.arrays import limits


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[float]:
    """Let every look at the clock find it later by 1/16 s, then by 1/32 s, in turn."""
    ticks = accumulate(cycle([1 / 16, 1 / 32]))
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(limits, "PRODUCT_ROWS", 3)
    monkeypatch.setattr(limits, "READ_ROWS", 5)
    return ticks


@pytest.mark.usefixtures("clock")
def test_a_product_counts_two_for_each_multiplication_and_addition() -> None:
    assert limits.sgemm_rate(7) == 2 * 7 * 2048 * 3 * 32  # the quicker of its runs


@pytest.mark.usefixtures("clock")
def test_reading_counts_four_bytes_a_number() -> None:
    assert limits.memory_rate() == 4 * 2048 * 5 * 32


def test_rates_come_from_work_that_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SECONDS", 0)
    shapes = []
    matmul = np.matmul

    def noted(a: np.ndarray, b: np.ndarray, **options: np.ndarray) -> np.ndarray:
        shapes.append((a.shape, b.shape, {x.dtype for x in (a, b)}))
        return matmul(a, b, **options)

    monkeypatch.setattr(np, "matmul", noted)
    assert limits.sgemm_rate() > 0
    assert limits.memory_rate() > 0
    single = {np.dtype(np.float32)}
    product = ((260, 2048), (2048, 8192), single)
    read = ((32768, 2048), (2048,), single)
    assert shapes == [product, product, read, read]  # the first to wake up
