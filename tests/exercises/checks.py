"""Examine one of a reader's layers: right, wrong, and by which known mistake."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from exercises.compare import difference, fault_of, outcome
from exercises.diagnosis import diagnosis
from exercises.draw import Draw
from exercises.ladder import HOME, LADDER
from exercises.reader import missing

WIDENS = (
    "right, but float32 in gives float64 out: a NumPy scalar does that, such as "
    "np.sqrt(2), where math.sqrt(2) does not (NEP 50)"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of one layer, as one line."""

    name: str
    verdict: str
    text: str = ""

    def __str__(self) -> str:
        return f"{self.name:<24} {self.verdict:<9} {self.text}".rstrip()

    @property
    def open(self) -> bool:
        """Whether there was nothing to test."""
        return self.verdict.startswith("not ")


def examine(name: str, layers: dict[str, Any]) -> Finding:
    """Call one of the reader's layers in every case, and compare it with ours."""
    ours, theirs = getattr(HOME[name], name), layers.get(name)
    if theirs is None or theirs is ours:
        return Finding(name, "not defined")
    worst = 0.0
    for title, case in LADDER[name].items():
        got = outcome(case, theirs, Draw(np.float64))
        expected = outcome(case, ours, Draw(np.float64))
        if isinstance(got, NotImplementedError):
            return Finding(name, "not yet written", missing(got, name))
        fault = fault_of(got, expected, Path(layers.get("__file__", "")))
        if fault:
            text = f"{title}: {fault}" if title else fault
            return Finding(name, "wrong", text + diagnosis(name, theirs))
        worst = max(worst, difference(got, expected))
    if widens(name, theirs):
        return Finding(name, "float64", WIDENS)
    return Finding(name, "right", f"off by {worst:.0e}" if worst else "to the last bit")


def widens(name: str, theirs: Any) -> bool:
    """Whether a right layer makes float64 of float32."""
    for case in LADDER[name].values():
        got = outcome(case, theirs, Draw(np.float32))
        if isinstance(got, list) and any(x.dtype == np.float64 for x in got):
            return True
    return False
