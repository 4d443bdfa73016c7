"""A profile as a table: seconds, shares, and rates against what the machine can do."""

from collections.abc import Sequence
from itertools import accumulate, groupby, pairwise
from typing import NamedTuple

from numpy_paligemma.arrays.limits import memory_rate, sgemm_rate
from numpy_paligemma.traces.profile import DECODE, HEAD, Profile, Row

HEADER = ["", "seconds", "share", "calls", "GFLOP/s", "GB/s", "of limit", "ms/token"]


class Limits(NamedTuple):
    """What the machine can do at most."""

    flops: float  # FLOP/s of a float32 matrix product
    read: float  # bytes/s of a float32 matrix-vector product


class Line(NamedTuple):
    """What one line of the table shows."""

    label: str
    row: Row
    tenths: int  # of a percent, its share of all seconds
    least: float  # seconds that the machine's rates allow for


def measure_limits() -> Limits:
    """Measure both rates, which takes about a second."""
    return Limits(sgemm_rate(), memory_rate())


def profile_table(profile: Profile, limits: Limits | None = None) -> str:
    """Write a profile down.

    Indented rows add up to their stage, and the stages to 100 %. "of limit" is the time
    that the machine's rates allow for a kind's arithmetic or for its bytes, whichever
    is longer, as a share of the time that was taken; for a sum, of those times.

    Parameters
    ----------
    profile : Profile
    limits : Limits, optional
        Measured where they are not given, after the profile was read off.
    """
    rows = profile.rows()
    limits = limits or measure_limits()
    tokens = sum(row.calls for row in rows if (row.stage, row.kind) == (DECODE, HEAD))
    cells = [_cells(line, tokens) for line in _lines(rows, limits)]
    return f"{_aligned([HEADER, *cells])}\n\n{_limits_in_words(limits)}"


def _lines(rows: Sequence[Row], limits: Limits) -> list[Line]:
    """Put each stage's sum above its kinds, and the sum of all at the end."""
    least = [max(row.flops / limits.flops, row.read / limits.read) for row in rows]
    labels = [f"  {row.kind}" for row in rows]
    kinds = list(map(Line, labels, rows, _tenths(rows), least))
    lines: list[Line] = []
    for stage, group in groupby(kinds, key=lambda line: line.row.stage):
        parts = list(group)
        lines += [_sum(stage, parts), *(line for line in parts if line.row.kind)]
    return [*lines, _sum("total", kinds)]


def _tenths(rows: Sequence[Row]) -> list[int]:
    """Share 1,000 out by seconds: what is rounded are sums, so that nothing is lost."""
    sums = [0.0, *accumulate(row.seconds for row in rows)]
    whole = [round(1000 * s / (sums[-1] or 1)) for s in sums]
    return [after - before for before, after in pairwise(whole)]


def _sum(label: str, lines: Sequence[Line]) -> Line:
    """Add lines up."""
    total = Row(label)
    for line in lines:
        total.add(line.row)
    tenths, least = sum(a.tenths for a in lines), sum(a.least for a in lines)
    return Line(label, total, tenths, least)


def _cells(line: Line, tokens: int) -> list[str]:
    """Write a line's cells; what does not apply stays empty."""
    label, row, tenths, least = line
    cells = [label, f"{row.seconds:.5f}", f"{tenths / 10:.1f} %", str(row.calls or "")]
    if row.read and row.seconds:
        flops, read = row.flops / row.seconds / 1e9, row.read / row.seconds / 1e9
        cells += [f"{flops:.1f}", f"{read:.2f}", f"{least / row.seconds:.0%}"]
    else:
        cells += ["", "", ""]
    each = row.stage == DECODE and tokens
    return [*cells, f"{1e3 * row.seconds / tokens:.3f}" if each else ""]


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """Set cells in columns, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = []
    for first, *others in lines:
        right = (cell.rjust(w) for cell, w in zip(others, widths[1:], strict=True))
        text.append("  ".join([first.ljust(widths[0]), *right]).rstrip())
    return "\n".join(text)


def _limits_in_words(limits: Limits) -> str:
    """Say what the limits are, and what is counted."""
    return (
        f"limits: {limits.flops / 1e9:.1f} GFLOP/s (float32 product, 260 rows), "
        f"{limits.read / 1e9:.1f} GB/s (float32 matrix-vector product)\n"
        "FLOP of matrix products alone; bytes of weights as held, of keys and values"
    )
