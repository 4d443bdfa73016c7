"""A download that is killed again and again ends, is whole, and is not begun anew."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hub_server import Hub, Repository, serving, sha256
from tiny import write_shards

KILLS = 20
SHARDS = 8
SHARD = 60_000_000
HELD = 10 << 20  # what the library holds in memory before it writes
IN_FLIGHT = 4 << 20  # in the sockets between the two
DOWNLOAD = """
from numpy_paligemma.checkpoints.hub import checkpoint_folder
print(checkpoint_folder("large/model"))
"""


def write_noise(folder: Path) -> Path:
    """Write a checkpoint whose shards are long, and mean nothing."""
    write_shards(folder)
    for shard in folder.glob("model-*.safetensors"):
        shard.unlink()
    rng = np.random.default_rng(0)
    names = [f"model-{i:05}-of-{SHARDS:05}.safetensors" for i in range(1, SHARDS + 1)]
    for name in names:
        (folder / name).write_bytes(rng.bytes(SHARD))
    index = {"weight_map": {name: name for name in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def start(hub: Hub, home: Path) -> subprocess.Popen[str]:
    """Download in another process, with a home of its own."""
    there = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home)}
    words = [sys.executable, "-c", DOWNLOAD]
    return subprocess.Popen(
        words, env=os.environ | there, stdout=subprocess.PIPE, text=True
    )


def wait_for(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.01)


def on_disk(home: Path) -> int:
    """Count the bytes that have come, in files that are whole or not yet."""
    return sum(path.stat().st_size for path in home.glob("hub/*/blobs/*"))


@pytest.mark.slow
def test_killed_twenty_times_it_ends_whole_and_is_never_begun_anew(
    tmp_path: Path,
) -> None:
    folder, home = write_noise(tmp_path / "there"), tmp_path / "home"
    moments = random.Random(0)
    with serving() as hub:
        hub.repositories["large/model"] = Repository({"main": folder})
        hub.pause = 0.0015  # about 40 MB a second
        kept = [0]
        for _ in range(KILLS):
            asked = len(hub.asked)
            with start(hub, home) as child:
                wait_for(lambda asked=asked: len(hub.asked) > asked)
                time.sleep(moments.uniform(0, 0.9))
                assert child.poll() is None
                child.send_signal(signal.SIGKILL)
            kept.append(on_disk(home))
        hub.pause = 0
        with start(hub, home) as child:
            out, _ = child.communicate(timeout=120)
    assert child.returncode == 0
    assert kept == sorted(kept)
    assert 0 < kept[-1] < SHARDS * SHARD
    shards = sorted(Path(out.strip()).glob("model-*.safetensors"))
    assert [sha256(p.resolve()) for p in shards] == [
        sha256(folder / p.name) for p in shards
    ]
    assert len(shards) == SHARDS
    assert not [*home.rglob("*.incomplete")]
    again = sum(hub.served[p.name] for p in shards) - SHARDS * SHARD
    told = f"{kept[-1] / 1e6:.0f} MB kept, {again / 1e6:.0f} MB served again"
    assert again <= KILLS * (HELD + IN_FLIGHT) < SHARDS * SHARD, told
