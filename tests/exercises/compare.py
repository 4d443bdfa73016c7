"""Call a layer, and say in which respect the outcome differs from the right one."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from tolerances import EXERCISE, relative_error

from exercises.draw import Draw
from exercises.ladder import Case
from exercises.reader import described

Outcome = list[Any] | Exception  # what a layer returned, or what it raised


def outcome(case: Case, layer: Any, a: Draw) -> Outcome:
    """Call a layer: what it returned, as a list, or what it raised."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            result = case(layer, a)
    except Exception as error:  # noqa: BLE001  whatever a reader's code may raise
        return error
    return list(result) if isinstance(result, tuple) else [result]


def fault_of(got: Outcome, expected: Outcome, path: Path) -> str:
    """Say what is wrong with an outcome; nothing if it is right."""
    if isinstance(expected, Exception):
        right = isinstance(got, type(expected))
        return "" if right else f"no {type(expected).__name__}, which is due here"
    if isinstance(got, Exception):
        written = "writes into what it is given: " * ("read-only" in str(got))
        return written + described(got, path)
    if len(got) != len(expected):
        return f"{len(got)} arrays, expected {len(expected)}"
    faults = (array_fault(x, y) for x, y in zip(got, expected, strict=True))
    return next(filter(None, faults), "")


def array_fault(x: Any, y: np.ndarray) -> str:
    """Say what is wrong with one array `x`, where `y` is right."""
    if not isinstance(x, np.ndarray):
        hint = "; is a return missing?" if x is None else ""
        return f"{type(x).__name__}, expected an array{hint}"
    if x.shape != y.shape:
        return f"shape {x.shape}, expected {y.shape}"
    if x.dtype != y.dtype and not (x.dtype.kind == y.dtype.kind == "i"):
        return f"dtype {x.dtype}, expected {y.dtype}"
    if y.dtype.kind != "f":
        wrong = np.count_nonzero(x != y)
        return f"{wrong} of {y.size} values differ" if wrong else ""
    if not np.all(np.isfinite(x)):
        return "nan or infinity where ours is finite"
    off = relative_error(x, y)
    return f"off by {off:.1e}{resemblance(x, y)}" if off > EXERCISE else ""


def resemblance(x: np.ndarray, y: np.ndarray) -> str:
    """Say in what `x` is like `y` all the same."""
    ratio = float(np.vdot(x, y) / max(np.vdot(y, y), np.finfo(float).tiny))
    if relative_error(x, ratio * y) < EXERCISE:
        return f", everywhere {ratio:.4g} times ours"
    if relative_error(np.sort(x, axis=None), np.sort(y, axis=None)) < EXERCISE:
        return ", our numbers in another order"
    if np.array_equal(x, x.astype(np.float32)):
        return ", rounded to float32 on the way"
    return ""


def difference(got: Outcome, expected: Outcome) -> float:
    """Measure how far right outcomes lie apart, by rounding."""
    if isinstance(got, Exception) or isinstance(expected, Exception):
        return 0.0
    pairs = zip(got, expected, strict=True)
    return max(
        (relative_error(x, y) for x, y in pairs if y.dtype.kind == "f"), default=0
    )
