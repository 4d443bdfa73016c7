"""How many threads, from the environment or asked for, and BLAS held while they work."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from numpy_paligemma.arrays import threads
from numpy_paligemma.arrays.threads import (
    LARGE_PRODUCT,
    UNPACKED_TERMS,
    available_threads,
    one_blas_thread,
    scratch,
    unpacked_rows,
    use_threads,
)
from numpy_paligemma.model import parallel

OPENBLAS, OMP = "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"


def blas_threads() -> set[int]:
    """Ask every BLAS that is loaded."""
    info = ThreadpoolController().select(user_api="blas").info()
    return {library["num_threads"] for library in info}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({OPENBLAS: "3"}, 3),
        ({OMP: "5"}, 5),
        ({OPENBLAS: "3", OMP: "5"}, 3),
        ({OPENBLAS: "0", OMP: "5"}, 5),
        ({OPENBLAS: "", OMP: "many"}, None),
        ({OMP: "-2"}, None),
        ({OMP: "2,1"}, 2),  # OpenMP's own list, a level each
        ({OMP: "999"}, 8),
        ({OMP: "9" * 5000}, None),
        ({}, None),
    ],
    ids=str,
)
def test_the_environment_may_ask_for_fewer(
    environment: dict[str, str], expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [OPENBLAS, OMP]:
        monkeypatch.delenv(name, raising=False)
    machine = available_threads()
    if hasattr(os, "sched_getaffinity"):
        assert machine == len(os.sched_getaffinity(0))
    machine = 8
    monkeypatch.setattr(threads, "_cores", lambda: machine)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert available_threads() == (expected or machine)


def test_where_nobody_tells_of_cores_all_are_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(OPENBLAS, raising=False)
    monkeypatch.delenv(OMP, raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    for count, expected in [(7, 7), (None, 1)]:
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert available_threads() == expected


@pytest.mark.parametrize("name", [OPENBLAS, OMP])
def test_a_process_begins_with_what_its_environment_asks(name: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in {OPENBLAS, OMP}}
    code = (
        "import numpy_paligemma.arrays.threads, numpy_paligemma.model.parallel as p;"
        "print(p.threads())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {name: "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "1\n"


def test_threads_are_taken_as_asked(
    take_threads: Callable[[int | None], None],
) -> None:
    take_threads(5)
    assert parallel.threads() == 5
    take_threads(None)
    assert parallel.threads() == available_threads()


@pytest.mark.parametrize("count", [0, -1])
def test_fewer_than_one_thread_are_refused(count: int) -> None:
    before = parallel.threads()
    told = rf"^threads: expected a whole number, 1 or more, found {count}$"
    with pytest.raises(ValueError, match=told):
        use_threads(count)
    assert parallel.threads() == before


# --- BLAS -----------------------------------------------------------------------------


def test_blas_is_held_in_a_block_in_blocks_and_after_errors() -> None:
    with ThreadpoolController().limit(limits=2, user_api="blas"):
        before = blas_threads()
        assert before == {2}
        with one_blas_thread():
            assert blas_threads() == {1}
            with one_blas_thread():
                assert blas_threads() == {1}
            assert blas_threads() == {1}
        assert blas_threads() == before
        with pytest.raises(KeyboardInterrupt), one_blas_thread():
            raise KeyboardInterrupt
        assert blas_threads() == before


def test_an_interrupt_while_blas_is_taken_leaves_it_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Interrupted:
        def limit(self, limits: int | None) -> object:
            limiter = ThreadpoolController().limit(limits=limits, user_api="blas")
            if limits == 1:
                raise KeyboardInterrupt
            return limiter

    with ThreadpoolController().limit(limits=2, user_api="blas"):
        with monkeypatch.context() as patch:
            patch.setattr(threads, "_take_control", lambda: None)
            patch.setattr(threads, "_blas", Interrupted)
            with pytest.raises(KeyboardInterrupt), one_blas_thread():
                pass
        assert threads._hold.holders == 0
        assert blas_threads() == {2}


def test_the_last_of_several_threads_lets_blas_go() -> None:
    """Whichever came first, and whichever thread set a limit before."""
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with one_blas_thread():
            inside.set()
            leave.wait(20)

    with ThreadpoolController().limit(limits=2, user_api="blas"):
        with one_blas_thread():
            other = threading.Thread(target=hold, daemon=True)
            other.start()
            assert inside.wait(20)
        assert blas_threads() == {1}  # the other one still needs it
        leave.set()
        other.join(20)
        assert blas_threads() == {2}


def test_a_thread_that_is_not_the_first_holds_blas_too() -> None:
    seen: list[set[int]] = []

    def hold() -> None:
        with one_blas_thread():
            seen.append(blas_threads())
        seen.append(blas_threads())

    with ThreadpoolController().limit(limits=2, user_api="blas"):
        with one_blas_thread():
            pass
        other = threading.Thread(target=hold)
        other.start()
        other.join(20)
        assert seen == [{1}, {2}]
        with one_blas_thread():
            assert blas_threads() == {1}
        assert blas_threads() == {2}


def test_many_threads_that_come_and_go_leave_blas_as_it_was() -> None:
    def come_and_go() -> None:
        for _ in range(100):
            with one_blas_thread():
                pass

    with ThreadpoolController().limit(limits=2, user_api="blas"):
        several = [threading.Thread(target=come_and_go) for _ in range(4)]
        for thread in several:
            thread.start()
        for thread in several:
            thread.join()
        assert blas_threads() == {2}


def test_rows_for_kernels_that_do_not_pack_are_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "_has_unpacked_kernels", lambda: True)
    for terms in [1, 100, 4096, UNPACKED_TERMS, 10 * UNPACKED_TERMS]:
        rows = unpacked_rows(terms)
        assert rows.bit_count() == 1  # a power of two
        assert rows == 1 or rows * terms <= UNPACKED_TERMS < 2 * rows * terms
    monkeypatch.setattr(threads, "_has_unpacked_kernels", lambda: False)
    assert unpacked_rows(100) == LARGE_PRODUCT


# --- scratch --------------------------------------------------------------------------


def test_scratch_is_the_same_memory_and_grows_where_it_must() -> None:
    first = scratch(10)
    assert first.dtype == np.float32
    assert first.shape == (10,)
    assert np.shares_memory(scratch(5), first)
    assert scratch(5).shape == (5,)
    larger = scratch(1 << 21)
    assert larger.shape == (1 << 21,)
    assert np.shares_memory(scratch(10), larger)


def test_no_two_threads_share_scratch() -> None:
    lent: list[np.ndarray] = [scratch(10)]
    thread = threading.Thread(target=lambda: lent.append(scratch(10)))
    thread.start()
    thread.join()
    assert not np.shares_memory(*lent)
