"""From raw figures to the README's tables: medians, ranges and ratios."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

OURS, THEIRS = "ours", "transformers"
# each of our columns, and the one of transformers' that it is held against
PAIRS = {"bfloat16": "bfloat16", "int8": "bfloat16", "float32": "float32"}
COLUMNS = [(OURS, ours) for ours in PAIRS] + [
    (THEIRS, theirs) for theirs in dict.fromkeys(PAIRS.values())
]
SIZE = 224  # pixels a side, of what is measured in full
WARMING = 2  # further tokens that are left out: the first in a process build kernels
EQUAL = "greedy ids equal, from the first on"

Figures = dict[str, list[float]]  # by label, one a round


@dataclass(frozen=True, slots=True)
class Run:
    """One process: what side.py wrote, and what it had been asked for."""

    side: str
    dtype: str
    size: int
    batch: int
    file_bytes: int
    imported: float
    loaded: float
    ready: list[float]
    tokens: list[list[float]]
    ids: list[list[int]]
    peak_of_load: int
    peak_after: int
    work: list[tuple[int, int]] | None = None

    @property
    def first(self) -> float:
        """Seconds from the start of the process to the first token."""
        return self.tokens[0][0]

    @property
    def again(self) -> float:
        """Seconds from picture and prompt to the first token, of the last call."""
        return self.tokens[-1][0] - self.ready[-1]

    @property
    def further(self) -> float:
        """Seconds a further step, which is a token a row: the median one."""
        return float(np.median(np.diff(self.tokens[-1])[WARMING:]))

    @property
    def peak(self) -> int:
        """Most bytes that the process ever held."""
        return max(self.peak_of_load, self.peak_after)


FULL: dict[str, Callable[[Run], float]] = {
    "import, s": lambda r: r.imported,
    "import and load, s": lambda r: r.loaded,
    "process start to first token, s": lambda r: r.first,
    "first token after load, first call, s": lambda r: r.first - r.loaded,
    "first token, second call, s": lambda r: r.again,
    "each further token, s": lambda r: r.further,
    "peak memory, GB": lambda r: r.peak / 1e9,
    "peak memory after load, GB": lambda r: r.peak_after / 1e9,
}
BATCH: dict[str, Callable[[Run], float]] = {
    "first tokens after load, s": lambda r: r.first - r.loaded,
    "tokens a second": lambda r: r.batch / r.further,
    "peak memory, GB": lambda r: r.peak / 1e9,
}
LARGER: dict[str, Callable[[Run], float]] = {
    "process start to first token, s": lambda r: r.first,
    "each further token, s": lambda r: r.further,
    "peak memory, GB": lambda r: r.peak / 1e9,
}


@dataclass(slots=True)
class Records:
    """Everything that was measured."""

    machine: str = ""
    runs: list[Run] = field(default_factory=list)
    sgemm: list[float] = field(default_factory=list)  # FLOP/s
    memory: list[float] = field(default_factory=list)  # bytes/s

    def at(self, side: str, dtype: str, size: int = SIZE, batch: int = 1) -> list[Run]:
        """Pick one column's runs of one kind."""
        wanted = (side, dtype, size, batch)
        return [r for r in self.runs if (r.side, r.dtype, r.size, r.batch) == wanted]


def read_records(path: Path) -> Records:
    """Read a file of raw figures, a JSON object a line."""
    records = Records()
    for line in path.read_text().splitlines():
        fields = json.loads(line)
        match fields.pop("kind"):
            case "machine":
                records.machine = fields["text"]
            case "limits":
                records.sgemm.append(fields["sgemm"])
                records.memory.append(fields["memory"])
            case "run":
                records.runs.append(Run(**fields))
    return records


def tables(records: Records) -> str:
    """Write both tables in Markdown, the ratios first."""
    columns = {key: figures(records, *key) for key in COLUMNS}
    columns = {key: found for key, found in columns.items() if found}
    shares = {key: shares_of(records, *key) for key in columns}
    parts = [records.machine, _ratios(records, columns)]
    whole = {key: columns[key] | shares[key] for key in columns}
    parts.append(_table([" ".join(key) for key in whole], list(whole.values())))
    if records.sgemm:
        parts.append(
            f"The machine's limits: {_told([x / 1e9 for x in records.sgemm])} GFLOP/s "
            "(float32 matrix product, 260 rows), "
            f"{_told([x / 1e9 for x in records.memory])} GB/s (float32 matrix-vector "
            "product). Every figure is the median of the rounds, with the lowest and "
            "the highest behind it; a ratio is that of the two in one round; a share "
            "is of the highest limit."
        )
    return "\n\n".join(part for part in parts if part)


def figures(records: Records, side: str, dtype: str) -> Figures:
    """Take a column's seconds and bytes out of its runs."""
    kinds = sorted({(r.size, r.batch) for r in records.runs})
    found: Figures = {}
    for size, batch in kinds:
        at, wanted = "", FULL
        if batch > 1:
            at, wanted = f"batch of {batch}: ", BATCH
        if size != SIZE:
            at, wanted = f"{size} pixels: ", LARGER
        runs = records.at(side, dtype, size, batch)
        found |= {at + label: [of(r) for r in runs] for label, of in wanted.items()}
    return {label: values for label, values in found.items() if values}


def shares_of(records: Records, side: str, dtype: str) -> Figures:
    """Hold a column against the machine, against the file, and against itself.

    Arithmetic and bytes are counted in our own process, and are transformers' too.
    """
    runs = records.at(side, dtype)
    counted = [r.work for r in records.at(OURS, dtype) if r.work]
    found: Figures = {
        "peak memory / checkpoint": [r.peak / r.file_bytes for r in runs],
        "peak memory after load / checkpoint": [
            r.peak_after / r.file_bytes for r in runs
        ],
    }
    if counted and records.sgemm:
        (flops, _), (_, read) = counted[-1]
        # what disturbs a machine lowers its limits: the highest is nearest to the truth
        sgemm, memory = max(records.sgemm), max(records.memory)
        for label, unit, of in (
            ("prefill, GFLOP/s", 1e9, lambda r: flops / r.again),
            ("prefill / limit", sgemm, lambda r: flops / r.again),
            ("each further token, GB/s", 1e9, lambda r: read / r.further),
            ("each further token / limit", memory, lambda r: read / r.further),
        ):
            found[label] = [of(r) / unit for r in runs]
    for batch in sorted({r.batch for r in records.runs} - {1}):
        pairs = zip(records.at(side, dtype, SIZE, batch), runs, strict=False)
        found[f"batch of {batch}: tokens a second / batch of 1"] = [
            batch * one.further / many.further for many, one in pairs
        ]
    return {label: values for label, values in found.items() if values}


def _ratios(records: Records, columns: dict[tuple[str, str], Figures]) -> str:
    """Write ours over theirs, round by round."""
    found: dict[str, dict[str, list[float] | str]] = {}
    for ours, theirs in PAIRS.items():
        mine, its = columns.get((OURS, ours), {}), columns.get((THEIRS, theirs), {})
        both: dict[str, list[float] | str] = {
            label.rpartition(", ")[0] or label: _divide(mine[label], its[label])
            for label in mine
            if label in its
        }
        if both:
            head = ours if ours == theirs else f"{ours} / {theirs}"
            pair = (records.at(OURS, ours), records.at(THEIRS, theirs))
            found[f"{head}"] = both | _equal_ids(*pair)
    return _table([f"ours / transformers, {h}" for h in found], list(found.values()))


def _divide(a: Sequence[float], b: Sequence[float]) -> list[float]:
    return [x / y for x, y in zip(a, b, strict=False)]


def _equal_ids(ours: list[Run], theirs: list[Run]) -> dict[str, str]:
    """Say how long both answered alike, which shows that they did the same work."""
    if not (ours and theirs):
        return {}
    pairs = list(zip(ours[0].ids, theirs[0].ids, strict=True))
    alike = next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs))
    return {EQUAL: f"{alike} of {len(pairs)}"}


def _table(heads: list[str], columns: Sequence[dict[str, list[float] | str]]) -> str:
    """Lay columns side by side; a row is a label that any of them has."""
    labels = dict.fromkeys(label for column in columns for label in column)
    lines = [["", *heads], ["---"] * (1 + len(heads))]
    lines += [[at, *(_told(c.get(at, "–")) for c in columns)] for at in labels]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) if heads else ""


def _told(values: Iterable[float] | str) -> str:
    """Write a median, and behind it the lowest and the highest."""
    if isinstance(values, str):
        return values
    low, middle, high = (_digits(f(values)) for f in (min, median, max))
    return middle if low == high else f"{middle} ({low}–{high})"


def _digits(x: float) -> str:
    """Write three digits that count."""
    return f"{x:.0f}" if x >= 100 else f"{x:.3g}"
