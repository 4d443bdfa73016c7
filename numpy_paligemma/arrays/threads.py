"""How many cores, and BLAS held to one thread while ours use them all.

A product that is cut into tiles over our threads must not be cut again inside BLAS: the
two kinds of threads would wait for each other.
"""

import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
from threadpoolctl import ThreadpoolController

from numpy_paligemma.model import parallel

LIMITS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")  # in the order of OpenBLAS

UNPACKED_TERMS = 1_000_000  # products of fewer terms these kernels do not pack first
LARGE_PRODUCT = 64  # rows
UNPACKED_KERNELS = {"SkylakeX", "Cooperlake", "SapphireRapids"}

_local = threading.local()


def available_threads() -> int:
    """Count the cores that this process may use; the environment may ask for fewer."""
    cores = _cores()
    for name in LIMITS:
        asked = os.environ.get(name, "").partition(",")[0].strip()  # OpenMP: by level
        if asked.isdecimal() and len(asked) < 10 and int(asked) > 0:
            return min(int(asked), cores)
    return cores


def _cores() -> int:
    """Count the cores that the system lets this process on."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_threads(count: int | None = None) -> None:
    """Use `count` threads from now on; None for what the machine and environment give.

    Raises
    ------
    ValueError
        If `count` is less than one.
    """
    if count is not None and count < 1:
        msg = f"threads: expected a whole number, 1 or more, found {count}"
        raise ValueError(msg)
    parallel.use_threads(available_threads() if count is None else count)


class _Hold:
    """BLAS is held while anybody needs it so, and let go by the last one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.holders = 0
        self.let_go: Callable[[], object] | None = None  # until something is held

    def take(self) -> None:
        """Hold BLAS to one thread, unless it is."""
        with self.lock:
            self.holders += 1  # first: an interrupt below is undone by `leave`
            if self.let_go is None:
                _take_control()
                self.let_go = _blas().limit(limits=None).restore_original_limits
            if self.holders == 1:
                _take_control()
                _blas().limit(limits=1)

    def leave(self) -> None:
        """Give BLAS its threads back, if nobody else holds it."""
        with self.lock:
            self.holders = max(0, self.holders - 1)
            if not self.holders and self.let_go is not None:
                _take_control()
                self.let_go()
                self.let_go = None


@cache
def _blas() -> ThreadpoolController:
    """Find the BLAS that NumPy loaded: milliseconds, so once."""
    return ThreadpoolController().select(user_api="blas")


def _take_control() -> None:
    """Let the calling thread set limits, whoever set one before.

    For OpenBLAS, threadpoolctl 3.8 lets only the first thread that does; what others
    set is passed over in silence.
    """
    for library in _blas().lib_controllers:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)


_hold = _Hold()


def _start_over() -> None:
    """Have threads, a free lock and a free BLAS in a forked process."""
    parallel.use_threads(parallel.threads())
    _hold.lock = threading.Lock()
    _hold.holders = 0
    _hold.leave()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread in this block; blocks may lie in blocks, and in threads.

    A whole forward pass lies in one: the threads of OpenBLAS wait for more work with a
    core each, for milliseconds after every product that they had a part in.
    """
    try:
        _hold.take()
        yield
    finally:
        _hold.leave()


@cache
def _has_unpacked_kernels() -> bool:
    """Say whether this BLAS multiplies small matrices as they lie."""
    return any(lib.get("architecture") in UNPACKED_KERNELS for lib in _blas().info())


def unpacked_rows(terms: int) -> int:
    """Say how many rows of `terms` each make the best product with a few vectors.

    OpenBLAS rearranges both operands before it multiplies, which takes longer than the
    product where one has few rows. For AVX-512 it has kernels for small products that
    do without; other BLAS are best off with large ones.
    """
    if not _has_unpacked_kernels():
        return LARGE_PRODUCT
    return 1 << max(0, int(math.log2(UNPACKED_TERMS / terms)))


def scratch(numbers: int) -> np.ndarray:
    """Lend the calling thread a float32 array of this length, full of anything.

    The same memory each time: fresh pages cost as much as the work that is done there.
    """
    held: np.ndarray | None = getattr(_local, "numbers", None)
    if held is None or len(held) < numbers:
        held = _local.numbers = np.empty(numbers, np.float32)
    return held[:numbers]


use_threads()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_start_over)
