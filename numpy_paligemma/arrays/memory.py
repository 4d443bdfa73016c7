"""How much memory can still be had: the machine's, or what its container is allowed.

A container is told of the whole machine's memory and is stopped at its own limit, which
only the files of its control groups know: those of version 2 (`memory.max`) or of
version 1 (`memory.limit_in_bytes`), along the way from the process's own group to the
root, since the narrowest counts.

References
----------
https://docs.kernel.org/admin-guide/cgroup-v2.html, section "Memory";
https://docs.kernel.org/admin-guide/cgroup-v1/memory.html, section 3.
"""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import NamedTuple

import numpy as np

MACHINE, CONTAINER = "this machine", "this container"


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that can still be had."""

    free: float  # at once; file pages that can be dropped are free
    most: float  # with what can be swapped out
    whose: str


class _Files(NamedTuple):
    """What the files of a control group are called."""

    limit: str
    used: str
    droppable: tuple[str, str]  # in memory.stat: file pages
    swap_limit: str
    swap_used: str


V1 = _Files(
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    ("total_active_file", "total_inactive_file"),
    "memory.memsw.limit_in_bytes",  # memory and swap together
    "memory.memsw.usage_in_bytes",
)
V2 = _Files(
    "memory.max",
    "memory.current",
    ("active_file", "inactive_file"),
    "memory.swap.max",  # swap alone
    "memory.swap.current",
)


def memory_here(process: Path = Path("/proc/self")) -> Memory:
    """Say how much memory this process can still have.

    Parameters
    ----------
    process : Path
        Where Linux tells of the process; elsewhere there is no such folder, and there
        are no control groups.
    """
    here = _machine()
    for files, group in _groups(process):
        try:
            allowed = _allowed(files, group)
        except (OSError, ValueError, KeyError):  # a root group has no limit, no file
            continue
        whose = CONTAINER if allowed.free < here.free else here.whose
        here = Memory(min(allowed.free, here.free), min(allowed.most, here.most), whose)
    return here


def is_mapped(x: object) -> bool:
    """Say whether an array is a view of a mapped file."""
    while isinstance(x, np.ndarray):
        x = x.base
    return isinstance(x, mmap)


def _machine() -> Memory:
    """Ask the operating system.

    macOS and Windows make room for swapping as it is needed, so that there all of the
    machine's memory can be had by whoever is willing to wait.
    """
    import psutil  # noqa: PLC0415  30 ms

    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    most = memory.available + swap.free
    if sys.platform != "linux":
        most = max(most, memory.total)
    return Memory(memory.available, most, MACHINE)


def _groups(process: Path) -> Iterator[tuple[_Files, Path]]:
    """List the control groups that bound the process, each with its files' names."""
    try:
        mounts = (process / "mountinfo").read_text(encoding="utf-8").splitlines()
        lines = (process / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, own = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        kind, files = ("cgroup", V1) if controllers else ("cgroup2", V2)
        for mount in mounts:
            before, _, after = mount.partition(" - ")
            root, top = before.split()[3:5]
            fstype, _, options = after.split(maxsplit=2)
            if fstype == kind and (not controllers or "memory" in options.split(",")):
                yield from ((files, group) for group in _way_up(own, root, Path(top)))


def _way_up(own: str, root: str, top: Path) -> Iterator[Path]:
    """List the folders from the process's group to the top of what is mounted.

    A container often sees its own group mounted as the top, with the name that the
    group has outside.
    """
    below = own.removeprefix(root.rstrip("/")).strip("/")
    group = top / below
    while group != top:
        if ".." not in group.parts and group.is_dir():
            yield group
        group = group.parent
    yield top


def _allowed(files: _Files, group: Path) -> Memory:
    """Read what a group may still have; OSError if it has no limit of its own."""
    limit, used = _number(group / files.limit), _number(group / files.used)
    stat = dict(
        line.split(maxsplit=1)
        for line in (group / "memory.stat").read_text(encoding="utf-8").splitlines()
    )
    droppable = sum(int(stat[name]) for name in files.droppable)
    free = max(0, limit - used + droppable)
    try:
        swap = _number(group / files.swap_limit) - _number(group / files.swap_used)
    except OSError:  # the kernel counts no swap
        return Memory(free, free, CONTAINER)
    most = max(0, swap + droppable) if files is V1 else free + max(0, swap)
    return Memory(free, max(free, most), CONTAINER)


def _number(path: Path) -> float:
    """Read a number of bytes; infinity where there is no limit."""
    text = path.read_text(encoding="ascii").strip()
    return math.inf if text == "max" else int(text)
