"""``numpy-paligemma compare``: where two traces part, and why."""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from textwrap import wrap

import numpy as np

from numpy_paligemma.traces.compare import Comparison, Row, compare
from numpy_paligemma.traces.diagnosis import Diagnosis, diagnose
from numpy_paligemma.traces.evidence.known import require_checkpoint

AGREE, DIFFER, TROUBLE = 0, 1, 2  # as diff(1)
SHOWN = 20  # names of one side alone
WIDE = 80  # letters of a line of text
BLIND = 1e-2  # tolerances above hide mistakes that a reader would want to hear of
FEW = 3  # names set aside that are all told


def run(argv: Sequence[str]) -> int:
    """Compare two traces: 0 where they agree, 1 where they differ, 2 for trouble."""
    args = parser().parse_args(argv)
    try:
        comparison = compare(args.a, args.b)
        pair = comparison.pair
        if args.model is not None:
            said = [side.says("checkpoint_sha256") for side in (pair.a, pair.b)]
            require_checkpoint(args.model, said)
        diagnosis = diagnose(comparison, args.model or "")
    except MemoryError as error:
        print(f"error: out of memory: {error}", file=sys.stderr)
        return TROUBLE
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return TROUBLE
    if args.json:
        print(json.dumps(_object(comparison, diagnosis), allow_nan=False))
    else:
        print("\n".join(_lines(comparison, diagnosis, every=args.all)))
    return AGREE if comparison.agree else DIFFER


def parser() -> argparse.ArgumentParser:
    """Make the parser."""
    p = argparse.ArgumentParser(
        "numpy-paligemma compare",
        description="Compare two traces, tap by tap in the model's order: where they "
        "part first, and the likely cause. Exit status: 0 they agree, 1 they differ, 2 "
        "trouble.",
        allow_abbrev=False,
    )
    what = (
        "a trace, .safetensors or .npz, named by our taps or by Hugging Face's modules"
    )
    p.add_argument("a", metavar="A", help=f"the reference: {what}")
    p.add_argument("b", metavar="B", help="the trace in question, the same kinds")
    p.add_argument("--all", action="store_true", help="a row for every name")
    p.add_argument("--json", action="store_true", help="all of it, for programs")
    p.add_argument(
        "--model",
        metavar="FOLDER",
        help="the checkpoint, to try known mistakes with its weights (default: what "
        "the traces name, if it lies on this disk)",
    )
    return p


def _object(comparison: Comparison, diagnosis: Diagnosis | None) -> dict[str, object]:
    """Tell it all to a program; an error that is no number is null."""
    first = comparison.first
    alone = [("A", path) for path in comparison.only_a]
    alone += [("B", path) for path in comparison.only_b]
    return {
        "agree": comparison.agree,
        "first": None if first is None else _numbers(first),
        "diagnosis": None
        if diagnosis is None
        else {"cause": diagnosis.cause, "text": diagnosis.text},
        "rows": [
            _numbers(row)
            | {"agrees": row.agrees, "shape": row.shape, "notes": row.notes}
            for row in comparison.rows
        ]
        + [
            {"name": path, "error": None, "tolerance": None, "only_in": side}
            for side, path in alone
        ],
    }


def _set_aside(why: str, names: Sequence[str], *, every: bool) -> Iterator[str]:
    """List names that nothing was done with; count them where they are many."""
    shown = names if every or len(names) <= FEW else names[:1]
    yield from (f"{why}: {name}" for name in shown)
    if len(shown) < len(names):
        yield f"{why}: {len(names) - len(shown)} more (--all lists them)"


def _numbers(row: Row) -> dict[str, object]:
    """Tell a row's name, error and tolerance."""
    error = row.error if np.isfinite(row.error) else None
    return {"name": row.name, "error": error, "tolerance": row.tolerance}


def _lines(
    comparison: Comparison, diagnosis: Diagnosis | None, *, every: bool
) -> Iterator[str]:
    """Write it as text: the verdict, the table, what one side alone has."""
    a, b = comparison.pair.a, comparison.pair.b
    yield f"A  {a.path}  ({len(a.held)} names, {a.grain})"
    yield f"B  {b.path}  ({len(b.held)} names, {b.grain})"
    yield from _verdict(comparison, diagnosis)
    yield ""
    yield f"{'name':48} {'error':>9} {'tolerance':>9}"
    yield from _table(comparison.rows, every=every)
    yield from _alone("A", comparison.only_a, every=every)
    yield from _alone("B", comparison.only_b, every=every)
    yield from _set_aside("not compared", comparison.odd, every=every)
    twice = [*a.repeated, *b.repeated]
    yield from _set_aside("the same place twice", twice, every=every)


def _verdict(comparison: Comparison, diagnosis: Diagnosis | None) -> Iterator[str]:
    """Say what came out, and where the first difference lies."""
    first, rows = comparison.first, comparison.rows
    if first is None or diagnosis is None:
        yield f"agree: all {len(rows)} names that both have"
        widest = max(rows, key=lambda row: row.tolerance)
        if widest.tolerance > BLIND:
            coarse = (
                f"as far as {comparison.pair.grain} tells: at {widest.name} a mistake "
                f"below {widest.tolerance:.0%} of the largest number is not seen; "
                "compare float32 with float32 to see it"
            )
            yield from wrap(coarse, WIDE, initial_indent="  ", subsequent_indent="  ")
        return
    place = rows.index(first)
    error = "no number" if not np.isfinite(first.error) else f"error {first.error:.1e}"
    yield f"differ: first at {first.name}, {error}, tolerance {first.tolerance:.1e}"
    if place:
        yield f"  the name before it that agrees is {rows[place - 1].name}"
    between = _between(comparison, first)
    if between:
        begun = (
            f"between them only one side has {_some(between)}: it may have begun there"
        )
        yield from wrap(begun, WIDE, initial_indent="  ", subsequent_indent="  ")
    yield f"diagnosis: {diagnosis.cause}"
    yield from wrap(diagnosis.text, WIDE, initial_indent="  ", subsequent_indent="  ")


def _between(comparison: Comparison, first: Row) -> list[str]:
    """List what one side alone has between the first difference and what agrees."""
    a, b = comparison.pair.a, comparison.pair.b
    place = comparison.rows.index(first)
    before = comparison.rows[place - 1].name if place else None
    found = []
    for trace, alone in ((a, comparison.only_a), (b, comparison.only_b)):
        order = list(trace.held)
        start = order.index(before) if before in order else -1
        found += [
            path for path in order[start + 1 : order.index(first.name)] if path in alone
        ]
    return found


def _some(names: Sequence[str]) -> str:
    """Name the first and the last, and count the others."""
    if len(names) <= 3:
        return ", ".join(names)
    return f"{names[0]} … {names[-1]} ({len(names)} names)"


def _table(rows: Sequence[Row], *, every: bool) -> Iterator[str]:
    """Write the rows; those that agree a block at a time, unless all are wanted."""
    if every:
        yield from map(_row, rows)
        return
    for block, group in groupby(rows, key=lambda row: (_block(row.name), row.agrees)):
        members = list(group)
        if not block[1] or len(members) == 1:
            yield from map(_row, members)
            continue
        worst = max(members, key=lambda row: row.error / (row.tolerance or 1))
        yield (
            f"{f'{block[0]} ({len(members)} names)':48} {worst.error:9.1e} "
            f"{worst.tolerance:9.1e}{_notes(members)}"
        )


def _block(name: str) -> str:
    """Take a name's room and block; single taps of a room are one group."""
    parts = name.split("/")
    end = next((i for i, part in enumerate(parts) if part.startswith("block")), None)
    return "/".join(parts[: end + 1]) if end is not None else parts[0]


def _row(row: Row) -> str:
    """Write one row, the difference marked."""
    error = f"{row.error:9.1e}" if np.isfinite(row.error) else f"{'none':>9}"
    mark = "" if row.agrees else "  <"
    return f"{row.name:48} {error} {row.tolerance:9.1e}{mark}{_notes([row])}"


def _notes(rows: Iterable[Row]) -> str:
    """Say which layouts were brought together."""
    notes = dict.fromkeys(note for row in rows for note in row.notes)
    return f"  [{'; '.join(notes)}]" if notes else ""


def _alone(side: str, names: Sequence[str], *, every: bool) -> Iterator[str]:
    """List what one side alone has."""
    if not names:
        return
    yield ""
    yield f"only in {side} ({len(names)}):"
    shown = names if every else names[:SHOWN]
    yield from (f"  {name}" for name in shown)
    if len(shown) < len(names):
        yield f"  and {len(names) - len(shown)} more (--all lists them)"
