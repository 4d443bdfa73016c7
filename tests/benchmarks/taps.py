"""Measure what taps cost: time where they are off, memory where a trace is written.

    python tests/benchmarks/taps.py [FOLDER]

Off, on the miniature: how many taps and scopes a further token passes, and what each
call costs, as a share of that token's time in the same run. With FOLDER, a checkpoint
such as tests/weights/random_checkpoint.py writes: the peak memory of a forward pass
with a trace of it and without one, each in a process of its own.
"""

import resource
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from pathlib import Path
from unittest import mock

import numpy as np

from numpy_paligemma import load_hf_model
from numpy_paligemma.checkpoints.hub import bundled
from numpy_paligemma.model import gemma, pipeline
from numpy_paligemma.model.tap import no_tap, scoped
from numpy_paligemma.traces.record import record_trace, with_answer

CALLS = 100_000
ROUNDS = 7  # of which the median counts
PROMPT = "caption en"
BARS = {"time": 0.01, "memory": 1.3}


def cost_of_taps_that_are_off() -> str:
    """Count a token's calls, time one of each, and compare with the token."""
    model, processor = load_hf_model("miniature", device="cpu")
    inputs = processor([PROMPT], [bundled("sample.jpg")])
    taps: list[str] = []
    scopes: list[str] = []

    def counted(name: str, x: np.ndarray) -> np.ndarray:
        taps.append(name)
        return x

    def also_counted(tap, scope):
        scopes.append(scope)
        return scoped(tap, scope)

    steps = model.stream(**inputs, do_sample=False, eos_token_id=-1, tap=counted)
    next(steps)
    taps.clear()
    with (
        mock.patch.object(gemma, "scoped", also_counted),
        mock.patch.object(pipeline, "scoped", also_counted),
    ):
        next(steps)

    x, i = np.zeros((1, 1, 128), np.float32), 3
    tap_cost = _seconds(lambda: no_tap("attention_norm", x))
    scope_cost = _seconds(lambda: scoped(no_tap, f"block{i:02d}"))
    token = _token_seconds(model, inputs)
    off = len(taps) * tap_cost + len(scopes) * scope_cost
    return (
        f"taps off: {len(taps)} taps of {tap_cost * 1e9:.0f} ns and {len(scopes)} scopes "
        f"of {scope_cost * 1e9:.0f} ns are {off * 1e6:.1f} µs of a token's "
        f"{token * 1e3:.2f} ms: {off / token:.2%} (bar {BARS['time']:.0%})"
    )


def _seconds(call) -> float:
    """Time one call, the loop's and the lambda's own time counted in."""
    rounds = timeit.repeat(call, number=CALLS, repeat=ROUNDS)
    return statistics.median(rounds) / CALLS


def _token_seconds(model, inputs) -> float:
    """Time a further token: the median of many."""
    options = {"do_sample": False, "eos_token_id": -1, "max_new_tokens": 60}
    times = [time.perf_counter() for _ in model.stream(**inputs, **options)]
    return statistics.median(np.diff(times))


def peak_memory(folder: str, kind: str) -> int:
    """Run one forward pass, with a trace or without: the process's peak in bytes."""
    model, processor = load_hf_model(folder, device="cpu")
    inputs = with_answer(processor([PROMPT], [bundled("sample.jpg")]))
    with np.errstate(all="ignore"), tempfile.TemporaryDirectory() as place:
        if kind == "plain":
            model.logits(**inputs)
        else:
            path = Path(place) / "t.safetensors"
            trace = record_trace(path, model, inputs)
            size = path.stat().st_size / 1e9
            print(f"{len(trace.rows)} arrays, {size:.2f} GB", file=sys.stderr)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # kB on Linux


def compare_memory(folder: str) -> str:
    """Measure both in processes of their own."""
    words = [sys.executable, __file__, folder]
    plain, trace = (
        int(subprocess.check_output([*words, kind])) for kind in ("plain", "trace")
    )
    return (
        f"trace: peak {trace / 1e9:.2f} GB, without {plain / 1e9:.2f} GB: "
        f"{trace / plain:.3f} × (bar {BARS['memory']} ×)"
    )


if __name__ == "__main__":
    match sys.argv[1:]:
        case [folder, kind]:
            print(peak_memory(folder, kind))
        case _:
            print(cost_of_taps_that_are_off(), flush=True)
            for folder in sys.argv[1:2]:
                print(compare_memory(folder))
