"""``numpy-paligemma trace``: every intermediate array of a run, into a file."""

import argparse
import logging
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from numpy_paligemma.commands.generate import load_asked
from numpy_paligemma.commands.options import (
    add_checkpoint,
    add_pictures,
    check_pictures,
    count,
)
from numpy_paligemma.commands.progress import Progress
from numpy_paligemma.inputs.image import load_image
from numpy_paligemma.traces.record import record_trace, with_answer
from numpy_paligemma.traces.writing.about import about_run, trace_target
from numpy_paligemma.traces.writing.tracing import Row

log = logging.getLogger(__name__)
HEADS = ("name", "shape", "dtype", "min", "max", "mean |x|")


def run(argv: Sequence[str]) -> None:
    """Record one forward pass, and decode steps; the table of its taps to stdout."""
    p = parser()
    args = p.parse_args(argv)
    check_pictures(p, args.image)
    # first: a mistyped name should not have to wait for a checkpoint
    target = trace_target(args.out)
    pictures = [load_image(name) for name in args.image]
    # arrays that overflow are what somebody may be looking for
    with np.errstate(all="ignore"), Progress(sys.stderr) as progress:
        progress.note(f"loading {args.model}")
        model, processor = load_asked(args)
        answer = processor.tokenizer.encode(args.answer)
        inputs = with_answer(
            processor(args.prompt, [pictures] * len(args.prompt)), answer
        )
        about = about_run(
            model.source or Path(),
            args.model,
            dtype=args.dtype,
            prompts=args.prompt,
            adapter=args.adapter,
        )
        tap = progress.tap(model.config)
        options = {"steps": args.steps, "taps": args.taps, "about": about, "tap": tap}
        trace = record_trace(target, model, inputs, **options)
    print("\n".join(_table(trace.rows)))
    _tell(trace.rows, target, args.steps, trace.steps)


def parser() -> argparse.ArgumentParser:
    """Make the parser."""
    p = argparse.ArgumentParser(
        "numpy-paligemma trace",
        description="Write every intermediate array of one forward pass into a "
        "safetensors file, each under the name of its tap, and print a table of them.",
        allow_abbrev=False,
    )
    for add in (add_pictures, _add_asked, _add_written, add_checkpoint):
        add(p.add_argument)
    return p


def _add_asked(add: Callable[..., object]) -> None:
    """Add what is asked, and how far the model runs."""
    add(
        "--prompt",
        required=True,
        action="append",
        metavar="TEXT",
        help='a task, such as "caption en"; may repeat, each a row of one batch',
    )
    add(
        "--steps",
        type=count,
        default=0,
        metavar="N",
        help="greedy decode steps behind the pass, under step001/ and so on "
        "(default %(default)s)",
    )
    add(
        "--answer",
        default="",
        metavar="TEXT",
        help="put this behind the prompt, causal, as in training (teacher forcing)",
    )


def _add_written(add: Callable[..., object]) -> None:
    """Add what is written, and where."""
    add(
        "--out",
        required=True,
        metavar="FILE.safetensors",
        help="the file; a trace that is there is replaced, no other file is",
    )
    add(
        "--taps",
        action="append",
        default=[],
        metavar="PATTERN",
        help="only these, such as 'decoder/block0?/mlp/*'; '!*/scores' leaves out; "
        "may repeat",
    )


def _tell(rows: Sequence[Row], target: Path, asked: int, made: int) -> None:
    """Note what was written, where the answer ended early, and where numbers went."""
    if made < asked:
        log.info("the answer ended after %d of %d steps", made, asked)
    lost = [row.name for row in rows if not math.isfinite(row.low + row.high)]
    if lost:
        where = f"{lost[0]} is the first of {len(lost)} arrays with it"
        log.warning("warning: NaN or infinity: %s", where)
    size = target.stat().st_size / 1e6
    log.info("%s: %d arrays, %.1f MB", target, len(rows), size)


def _table(rows: Sequence[Row]) -> Iterator[str]:
    """Write what is in the file, a line an array."""
    cells = [HEADS, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for name, *rest in cells:
        right = (
            f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True)
        )
        yield "  ".join([f"{name:{widths[0]}}", *right])


def _cells(row: Row) -> tuple[str, ...]:
    """Write a row's cells."""
    numbers = (f"{x:.4g}" for x in (row.low, row.high, row.mean))
    return (row.name, " × ".join(map(str, row.shape)), row.dtype, *numbers)
