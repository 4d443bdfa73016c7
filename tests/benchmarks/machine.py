"""The machine of a benchmark: what it is, and, run as a program, what it can do at most."""

import json
import os
import platform
import re
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

LIBRARIES = ("numpy", "torch", "transformers")
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # what the bars depend on


def describe() -> str:
    """Write date, processor, memory and versions in a line."""
    import numpy as np

    cpu = Path("/proc/cpuinfo").read_text()
    name, family, model = (
        re.search(rf"^{key}\s*: (.*)$", cpu, re.MULTILINE)[1]
        for key in ("model name", "cpu family", "model")
    )
    flags = " ".join(f for f in FLAGS if re.search(rf"\b{f}\b", cpu)) or "none of them"
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    versions = [f"{name} {version(name)}" for name in LIBRARIES if find_spec(name)]
    versions.insert(1, f"{blas['name']} {blas['version']}")
    return (
        f"{time.strftime('%Y-%m-%d')}, {name} (family {family}, model {model}: "
        f"{flags}), {len(os.sched_getaffinity(0))} cores, {memory:.0f} GB; "
        f"Python {platform.python_version()}, {', '.join(versions)}"
    )


if __name__ == "__main__":
    from numpy_paligemma.arrays.limits import memory_rate, sgemm_rate

    print(json.dumps({"sgemm": sgemm_rate(), "memory": memory_rate()}))
