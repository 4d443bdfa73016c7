"""Work shared out over threads: every part once, whatever goes wrong, and no waiting."""

import math
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from numpy_paligemma.model import parallel
from numpy_paligemma.model.parallel import (
    BLOCK,
    FEWEST_ROWS,
    cut,
    in_parallel,
    over_rows,
    stacked_product,
    threads,
)

Parts = Iterator[slice]
TakeThreads = Callable[[int], None]
PATIENCE = 20  # seconds, for what would otherwise hang


def within_patience(work: Callable[[], object]) -> None:
    """Fail, and do not hang, where threads wait for each other."""
    done: list[object] = []
    thread = threading.Thread(target=lambda: done.append(work()), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert done, "it hangs, or has failed"


@pytest.mark.parametrize(
    ("length", "step", "expected"),
    [
        (7, 3, [(0, 3), (3, 6), (6, 7)]),
        (6, 3, [(0, 3), (3, 6)]),
        (2, 5, [(0, 2)]),
        (0, 5, []),
    ],
)
def test_slices_lie_side_by_side(
    length: int, step: int, expected: list[tuple[int, int]]
) -> None:
    assert cut(length, step) == [slice(*ends) for ends in expected]


@pytest.mark.parametrize("count", [1, 2, 3, 64])
@pytest.mark.parametrize("parts", [0, 1, 2, 5, 200])
def test_every_part_is_done_once(
    count: int, parts: int, take_threads: TakeThreads
) -> None:
    take_threads(count)
    assert threads() == count
    done: list[int] = []
    in_parallel(lambda mine: done.extend(part.start for part in mine), cut(parts, 1))
    assert Counter(done) == Counter(range(parts))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_as_many_threads_work_as_were_asked_for(
    count: int, take_threads: TakeThreads
) -> None:
    take_threads(count)
    together = threading.Barrier(count, timeout=PATIENCE)  # broken if one is missing

    def work(mine: Parts) -> None:
        next(mine)
        together.wait()

    in_parallel(work, cut(count, 1))
    assert not together.broken


def test_a_single_part_is_done_by_who_calls(take_threads: TakeThreads) -> None:
    take_threads(3)
    seen: list[int] = []

    def work(mine: Parts) -> None:
        seen.extend(threading.get_ident() for _ in mine)

    in_parallel(work, cut(1, 1))
    assert seen == [threading.get_ident()]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_any_thread_raises_arrives(count: int, take_threads: TakeThreads) -> None:
    take_threads(count)
    together = threading.Barrier(count, timeout=PATIENCE)
    for raiser in range(count):
        callers = raiser == 0

        def work(mine: Parts, callers: bool = callers) -> None:
            next(mine)
            together.wait()
            if callers == (threading.current_thread() is threading.main_thread()):
                raise ArithmeticError

        with pytest.raises(ArithmeticError):
            in_parallel(work, cut(count, 1))


def test_after_an_interrupt_nobody_takes_another_part(
    take_threads: TakeThreads,
) -> None:
    take_threads(2)
    begun, done = threading.Event(), []

    def work(mine: Parts) -> None:
        for part in mine:
            if threading.current_thread() is threading.main_thread():
                begun.wait(PATIENCE)
                raise KeyboardInterrupt
            begun.set()
            time.sleep(0.05)  # the caller is interrupted meanwhile
            done.append(part)

    with pytest.raises(KeyboardInterrupt):
        in_parallel(work, cut(100, 1))
    assert len(done) == 1  # waited for, and the last
    time.sleep(0.1)
    assert len(done) == 1


def test_work_may_share_out_work_of_its_own(take_threads: TakeThreads) -> None:
    for count in [2, 3]:
        take_threads(count)
        done: list[int] = []

        def outer(mine: Parts, done: list[int] = done) -> None:
            for part in mine:
                time.sleep(0.002)  # so that every thread has its share

                def inner(its: Parts, at: int = part.start) -> None:
                    for small in its:
                        time.sleep(0.001)
                        done.append(10 * at + small.start)

                in_parallel(inner, cut(10, 1))

        within_patience(lambda outer=outer: in_parallel(outer, cut(6, 1)))
        assert sorted(done) == list(range(60))


@pytest.mark.parametrize("when", ["atexit", "thread"])
def test_at_the_interpreters_end_the_caller_does_everything(when: str) -> None:
    code = (
        "import atexit, threading\n"
        "from numpy_paligemma.model import parallel as p\n"
        "def work():\n"
        "    done = []\n"
        "    p.in_parallel(lambda mine: done.extend(x.start for x in mine), parts)\n"
        "    print(sorted(done) == list(range(50)))\n"
        "def later():\n"
        "    threading.main_thread().join()\n"
        "    work()\n"
        "p.use_threads(3)\n"
        "parts = p.cut(50, 1)\n"
    )
    starts = {
        "atexit": "atexit.register(work)",
        "thread": "threading.Thread(target=later).start()",
    }
    ran = subprocess.run(
        [sys.executable, "-c", code + starts[when]],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    assert (ran.stdout, ran.stderr) == ("True\n", "")


def test_callers_in_several_threads_share_the_helpers(
    take_threads: TakeThreads,
) -> None:
    take_threads(3)
    done: list[int] = []

    def call() -> None:
        for _ in range(20):
            in_parallel(lambda mine: done.extend(p.start for p in mine), cut(50, 1))

    callers = [threading.Thread(target=call, daemon=True) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(PATIENCE)
    assert Counter(done) == dict.fromkeys(range(50), 80)


def test_the_number_of_threads_may_change_while_they_compute(
    take_threads: TakeThreads,
) -> None:
    wrong: list[object] = []
    stop = threading.Event()

    def compute() -> None:
        try:
            while not stop.is_set():
                done: list[int] = []
                in_parallel(
                    lambda mine, done=done: done.extend(part.start for part in mine),
                    cut(30, 1),
                )
                assert sorted(done) == list(range(30))
        except BaseException as error:  # noqa: BLE001  it is shown below
            wrong.append(error)

    thread = threading.Thread(target=compute, daemon=True)
    thread.start()
    for count in [2, 1, 5, 3] * 25:
        take_threads(count)
        time.sleep(0.001)
    stop.set()
    thread.join(PATIENCE)
    assert not wrong
    assert not thread.is_alive()


def test_threads_that_are_no_longer_wanted_end(take_threads: TakeThreads) -> None:
    take_threads(1)
    time.sleep(0.05)
    before = threading.active_count()
    for _ in range(5):
        take_threads(20)
        in_parallel(lambda mine: [time.sleep(0.001) for _ in mine], cut(40, 1))
    assert threading.active_count() > before
    take_threads(1)
    end = time.monotonic() + PATIENCE
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() <= before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_forked_process_has_threads_of_its_own(take_threads: TakeThreads) -> None:
    take_threads(3)
    a, b = np.ones((2, 200, 9)), np.ones((2, 9, 5))
    stacked_product(a, b)  # makes the threads
    child = os.fork()
    if not child:
        right = threads() == 3 and (stacked_product(a, b) == 9).all()
        os._exit(0 if right else 1)
    end = time.monotonic() + PATIENCE
    ended, status = 0, 0
    while not ended and time.monotonic() < end:
        time.sleep(0.01)
        ended, status = os.waitpid(child, os.WNOHANG)
    if not ended:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert ended
    assert os.waitstatus_to_exitcode(status) == 0
    np.testing.assert_array_equal(stacked_product(a, b), 9)  # and this one has its own


# --- what is made of it ---------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("block", [1, 14, 15, BLOCK])
@pytest.mark.parametrize("shape", [(), (7,), (3, 7), (2, 3, 7), (1, 2, 4, 99), (0, 7)])
def test_rows_are_worked_on_once_and_in_small_blocks(
    shape: tuple[int, ...],
    block: int,
    count: int,
    take_threads: TakeThreads,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parallel, "BLOCK", block)
    take_threads(count)
    x = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    sizes: list[int] = []

    def work(rows: np.ndarray, into: np.ndarray) -> None:
        sizes.append(rows.size)
        np.add(rows, 1, out=into)

    out = over_rows(work, x)
    assert out.dtype == x.dtype
    np.testing.assert_array_equal(out, x + 1)
    assert sum(sizes) == x.size
    assert max(sizes) <= max(block, *shape[-1:], 1)


@pytest.mark.parametrize("count", [1, 2, 3, 64])
@pytest.mark.parametrize("rows", [1, FEWEST_ROWS, FEWEST_ROWS + 1, 200])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_stack_of_products_is_einsum(
    dtype: type,
    rows: int,
    count: int,
    rng: np.random.Generator,
    take_threads: TakeThreads,
) -> None:
    take_threads(count)
    a, b = rng.integers(-9, 10, (2, 3, rows, 5)), rng.integers(-9, 10, (2, 3, 4, 5))
    a, b = a.astype(dtype), b.astype(dtype).swapaxes(-1, -2)
    found = stacked_product(a, b)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.einsum("bnrh,bnhs->bnrs", a, b))
