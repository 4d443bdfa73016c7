"""Record a run: one forward pass, and decode steps behind it, into one file.

The file is a safetensors file. A tensor's name is its tap's path, such as
``decoder/block03/attention/probs``; what the model was given stands under ``inputs/``,
such as ``inputs/input_ids`` (B, T). Names of a decode step have ``step001/`` and so on
before them, ``step001/inputs/input_ids`` (B, 1) among them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Any

import numpy as np

from numpy_paligemma.arrays.device import to_host
from numpy_paligemma.inputs.checks import check_padding
from numpy_paligemma.model.cache import LayerCache
from numpy_paligemma.model.pipeline import decode_step, empty_caches
from numpy_paligemma.model.tap import Tap, no_tap
from numpy_paligemma.paligemma import PaliGemma
from numpy_paligemma.traces.writing.about import FORMAT, trace_target, versions
from numpy_paligemma.traces.writing.choice import choose_taps, planned_taps, step_scope
from numpy_paligemma.traces.writing.stream import TensorStream
from numpy_paligemma.traces.writing.tracing import INPUTS, Trace
from numpy_paligemma.traces.writing.whole import WholeFile

IDS = "input_ids"
BLOCK = "decoder/block"

Arrays = Mapping[str, Any]  # by name


@contextmanager
def trace_file(
    path: str | PathLike[str],
    model: PaliGemma,
    inputs: Arrays,
    *,
    steps: int = 0,
    taps: Sequence[str] = (),
    about: Mapping[str, str] | None = None,
) -> Iterator[Trace]:
    """Open a trace, for `model.logits` or `generate` to record into by its `tap`.

        with trace_file("t.safetensors", model, inputs, steps=99) as trace:
            model.generate(**inputs, tap=trace.tap, do_sample=False)

    Every tensor goes to the disk when it comes and is not held. The file is there when
    the block ends; where it ends in an error there is none, or what was there before.

    Parameters
    ----------
    path : str or path
        Ends in .safetensors; a trace that is there is replaced, no other file.
    model : PaliGemma
    inputs : what the model is given, by name: int64 ids and masks, float32 pixels
    steps : int
        How many decode steps may follow the pass.
    taps : patterns of the taps to keep, by default all; see `choose_taps`
    about : metadata, such as `about_run` gives

    Raises
    ------
    ValueError, OSError
        One line.
    """
    planned = planned_taps(model.config, steps)
    chosen = choose_taps(planned, taps)
    names = [*chosen, *(INPUTS + name for name in inputs)]
    names += [f"{step_scope(step + 1)}{INPUTS}{IDS}" for step in range(steps)]
    metadata = {
        "format": FORMAT,
        **(about or {}),
        "arithmetic": model.weights.projector.bias.dtype.name,
        "versions": versions(),
        "steps": str(steps),
        "taps": json.dumps(list(taps) or ["*"]),
    }
    integers = sum(x.size for x in inputs.values() if x.dtype == np.int64)
    integers += len(inputs[IDS]) * steps
    with WholeFile(trace_target(path)) as file:
        stream = TensorStream(file, metadata["arithmetic"], names, integers, metadata)
        trace = Trace(stream, planned, chosen)
        for name, x in inputs.items():
            trace.give(name, x)
        yield trace
        stream.metadata["steps"] = str(trace.steps)
        stream.finish()


def record_trace(
    path: str | PathLike[str],
    model: PaliGemma,
    inputs: Arrays,
    *,
    steps: int = 0,
    taps: Sequence[str] = (),
    about: Mapping[str, str] | None = None,
    tap: Tap = no_tap,
) -> Trace:
    """Record one forward pass and greedy decode steps.

    The pass gives the logits of every position, as `PaliGemma.logits` does. The steps
    read from a cache that is filled with the keys and values of that very pass, and end
    when all rows have ended.

    Parameters
    ----------
    path, model, steps, taps, about : as in `trace_file`
    inputs : as `PaliGemma.logits` takes them, padded on the left
    tap : Tap
        Comes first: what it returns is recorded, and what the model goes on with.

    Returns
    -------
    Trace
        `rows` has one for each tap in the file, `steps` says how many there were.
    """
    check_padding(inputs["attention_mask"])
    opened = trace_file(path, model, inputs, steps=steps, taps=taps, about=about)
    with opened as trace:

        def both(name: str, x: np.ndarray) -> np.ndarray:
            return trace.tap(name, tap(name, x))

        for ids in _run(model, inputs, steps, both):
            trace.give(IDS, ids[:, None])
    return trace


def with_answer(inputs: Arrays, answer: Sequence[int] = ()) -> dict[str, np.ndarray]:
    """Put an answer's tokens behind every prompt, as causal ones (teacher forcing).

    Says with `token_type_ids` which are the answer's (1) and which the prefix's (0),
    also where there is no answer: transformers takes all for causal without them.
    """
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    new = np.tile(np.array(answer, np.int64), (len(ids), 1))  # (B, new)
    return {
        "input_ids": np.concatenate([ids, new], axis=1),
        "attention_mask": np.concatenate([mask, np.ones_like(new)], axis=1),
        "token_type_ids": np.concatenate([0 * ids, np.ones_like(new)], axis=1),
        "pixel_values": inputs["pixel_values"],
    }


def _run(
    model: PaliGemma, inputs: Arrays, steps: int, tap: Tap
) -> Iterator[np.ndarray]:
    """Run the pass and the steps: what each step is given, int64 (B,), before it runs."""
    w, c, seen = model.weights, model.config, inputs["attention_mask"]
    B, T = seen.shape
    caches = empty_caches(B, T + steps, w, c) if steps else ()
    first_tap = _filling(caches, tap) if steps else tap
    # a copy: the logits of all positions need not stay
    logits = model.logits(**inputs, tap=first_tap)[:, -1].copy()  # (B, V)
    done = np.zeros(B, bool)
    for _ in range(steps):
        ids = np.where(done, c.pad_token_id, np.argmax(to_host(logits), axis=-1))
        done |= np.isin(ids, c.eos_token_ids)
        if done.all():
            return
        yield ids
        seen = np.pad(seen, ((0, 0), (0, 1)), constant_values=1)
        logits = decode_step(ids, seen, w, c, caches, tap=tap)


def _filling(caches: Sequence[LayerCache], tap: Tap) -> Tap:
    """Make a tap that fills the caches in a pass that has none, and then calls `tap`."""
    values: dict[str, np.ndarray] = {}

    def fill(name: str, x: np.ndarray) -> np.ndarray:
        x = tap(name, x)
        scope, _, what = name.rpartition("/")
        if scope.startswith(BLOCK) and what == "v_proj":
            values[scope] = x
        elif scope.startswith(BLOCK) and what == "k":
            block = int(scope.removeprefix(BLOCK).partition("/")[0])
            caches[block].extend(x, values.pop(scope))
        return x

    return fill
