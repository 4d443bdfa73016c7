"""What can still be had: the narrowest of the machine and its control groups."""

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from numpy_paligemma.arrays.memory import CONTAINER, MACHINE, Memory, memory_here

GB = 10**9
Group = dict[str, int | str]
Fake = Callable[..., Path]

V2: Group = {
    "memory.max": 5 * GB,
    "memory.current": 4 * GB,
    "memory.stat": f"anon {GB}\nactive_file {2 * GB}\ninactive_file {GB // 2}\n",
    "memory.swap.max": 0,
    "memory.swap.current": 0,
}
V1: Group = {
    "memory.limit_in_bytes": 5 * GB,
    "memory.usage_in_bytes": 4 * GB,
    "memory.stat": f"cache 1\ntotal_active_file {2 * GB}\n"
    f"total_inactive_file {GB // 2}\nactive_file 7\ninactive_file 7\n",
    "memory.memsw.limit_in_bytes": 5 * GB,
    "memory.memsw.usage_in_bytes": 4 * GB,
}
UNLIMITED = 9223372036854771712  # what version 1 says where there is no limit
V2_MOUNT = "41 31 0:38 {root} {top} rw - cgroup2 cgroup2 rw"
V1_MOUNT = "35 31 0:32 {root} {top} rw shared:1 - cgroup cgroup rw,memory"


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a machine of 16 GB in place of this one, 10 of them free, with 3 of swap."""

    def is_like(
        available: int = 10 * GB, swap: int = 3 * GB, platform: str = "linux"
    ) -> None:
        memory = SimpleNamespace(available=available, total=16 * GB)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
        monkeypatch.setattr(psutil, "swap_memory", lambda: SimpleNamespace(free=swap))
        monkeypatch.setattr("sys.platform", platform)

    is_like()
    return is_like


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    """Write the files of control groups; the process's folder."""

    def write(
        groups: dict[str, Group], line: str, mount: str = V2_MOUNT, root: str = "/"
    ) -> Path:
        top = tmp_path / "cgroup"
        for name, files in groups.items():
            folder = top / name
            folder.mkdir(parents=True, exist_ok=True)
            for file, text in files.items():
                (folder / file).write_text(f"{text}".rstrip() + "\n")
        process = tmp_path / "self"
        process.mkdir()
        mounts = [
            "23 1 0:20 / /proc rw - proc proc rw",
            mount.format(root=root, top=top),
        ]
        (process / "mountinfo").write_text("\n".join(mounts) + "\n")
        (process / "cgroup").write_text(f"3:cpuset:/\n1:name=systemd:/\n{line}\n")
        return process

    return write


def test_a_machine_without_groups_has_what_the_system_says(tmp_path: Path) -> None:
    assert memory_here(tmp_path) == Memory(10 * GB, 13 * GB, MACHINE)


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_where_swap_grows_all_of_the_machine_can_be_had(
    tmp_path: Path, machine: Callable[..., None], platform: str
) -> None:
    machine(2 * GB, GB, platform)
    assert memory_here(tmp_path) == Memory(2 * GB, 16 * GB, MACHINE)


@pytest.mark.parametrize(
    ("group", "line", "mount"),
    [(V2, "0::/a", V2_MOUNT), (V1, "4:memory:/a", V1_MOUNT)],
    ids=["v2", "v1"],
)
def test_a_container_has_its_limit_less_what_cannot_be_dropped(
    fake: Fake, group: Group, line: str, mount: str
) -> None:
    process = fake({"a": group}, line, mount)
    assert memory_here(process) == Memory(3.5 * GB, 3.5 * GB, CONTAINER)


def test_the_narrowest_group_on_the_way_up_counts(fake: Fake) -> None:
    wide = V2 | {"memory.max": "max"}
    outer = V2 | {"memory.max": 3 * GB}
    process = fake({"a": outer, "a/b": V2, "a/b/c": wide}, "0::/a/b/c")
    assert memory_here(process) == Memory(1.5 * GB, 1.5 * GB, CONTAINER)


@pytest.mark.parametrize(
    ("group", "line", "mount"),
    [
        (V2 | {"memory.max": "max"}, "0::/a", V2_MOUNT),
        (V1 | {"memory.limit_in_bytes": UNLIMITED}, "4:memory:/a", V1_MOUNT),
        ({"memory.current": 5 * GB}, "0::/", V2_MOUNT),  # the root has no limit's file
        (V2 | {"memory.max": 50 * GB}, "0::/a", V2_MOUNT),
        (V2 | {"memory.max": "lots"}, "0::/a", V2_MOUNT),
        (V2 | {"memory.stat": "anon 1"}, "0::/a", V2_MOUNT),
    ],
)
def test_a_group_without_a_limit_of_its_own_changes_nothing(
    fake: Fake, group: Group, line: str, mount: str
) -> None:
    group = group | {"memory.swap.max": "max", "memory.memsw.limit_in_bytes": UNLIMITED}
    process = fake({"a": group}, line, mount)
    assert memory_here(process) == Memory(10 * GB, 13 * GB, MACHINE)


@pytest.mark.parametrize(("limit", "most"), [("max", 13), (2 * GB, 4.5), (0, 3.5)])
def test_a_container_may_swap_as_far_as_it_is_let(
    fake: Fake, limit: int | str, most: float
) -> None:
    swapping = V2 | {"memory.swap.max": limit, "memory.swap.current": GB}
    process = fake({"a": swapping}, "0::/a")
    assert memory_here(process) == Memory(3.5 * GB, most * GB, CONTAINER)


def test_version_1_counts_memory_and_swap_together(fake: Fake) -> None:
    both = V1 | {"memory.memsw.limit_in_bytes": 7 * GB}
    process = fake({"a": both}, "4:memory:/a", V1_MOUNT)
    assert memory_here(process) == Memory(3.5 * GB, 5.5 * GB, CONTAINER)


def test_a_kernel_that_counts_no_swap_gives_none(fake: Fake) -> None:
    group = {name: text for name, text in V1.items() if "memsw" not in name}
    process = fake({"a": group}, "4:memory:/a", V1_MOUNT)
    assert memory_here(process) == Memory(3.5 * GB, 3.5 * GB, CONTAINER)


@pytest.mark.parametrize(
    ("own", "root"),
    [
        ("/docker/1a", "/docker/1a"),  # the group itself is what is mounted
        ("/docker/1a/b", "/docker/1a"),
        ("/elsewhere", "/docker/1a"),
        ("/", "/"),  # a namespace of groups
        ("/../x", "/"),
    ],
)
def test_a_container_sees_its_group_as_the_top(fake: Fake, own: str, root: str) -> None:
    process = fake({"": V2}, f"0::{own}", root=root)
    assert memory_here(process) == Memory(3.5 * GB, 3.5 * GB, CONTAINER)


def test_groups_below_the_mounted_one_are_found_by_the_rest_of_their_name(
    fake: Fake,
) -> None:
    outer = V2 | {"memory.max": "max"}
    process = fake({"": outer, "b": V2}, "0::/docker/1a/b", root="/docker/1a")
    assert memory_here(process).whose == CONTAINER


def test_the_groups_of_other_controllers_are_not_asked(fake: Fake) -> None:
    process = fake({"cpus": V1}, "4:memory:/\n5:cpuset:/cpus", V1_MOUNT)
    assert memory_here(process) == Memory(10 * GB, 13 * GB, MACHINE)


def test_a_group_that_has_spent_everything_has_nothing_and_not_less(fake: Fake) -> None:
    full = V2 | {"memory.max": GB, "memory.stat": "active_file 0\ninactive_file 0"}
    here = memory_here(fake({"a": full}, "0::/a"))
    assert (here.free, here.most) == (0, 0)


def test_this_machine_has_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    here = memory_here()
    assert 0 < here.free <= here.most < math.inf
