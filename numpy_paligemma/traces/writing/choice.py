"""Which taps a trace has: of a pass, of the steps behind it, and which are wanted."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from numpy_paligemma.checkpoints.taps import every_tap
from numpy_paligemma.model.config import PaliGemmaConfig

NOT = "!"
MOST_STEPS = 999
STEP = re.compile(r"^step\d+/")


def step_scope(step: int) -> str:
    """Name what stands before a tap's path: nothing in the pass, then ``step001/``."""
    return f"step{step:03d}/" if step else ""


def planned_taps(c: PaliGemmaConfig, steps: int) -> list[str]:
    """List the taps of a pass and of decode steps behind it, in their order.

    ValueError if there are more steps than three digits can count.
    """
    if not 0 <= steps <= MOST_STEPS:
        msg = f"steps: expected 0 to {MOST_STEPS}, came {steps}"
        raise ValueError(msg)
    of_pass = list(every_tap(c))
    again = [name for name in of_pass if name.startswith(("decoder/", "logits"))]
    scopes = (step_scope(step) for step in range(1, steps + 1))
    return of_pass + [scope + name for scope in scopes for name in again]


def choose_taps(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Choose the names that match, in their order; all of them without a pattern.

    Parameters
    ----------
    names : sequence of str
    patterns : sequence of str
        As a shell's: ``*`` stands for any letters, slashes too, ``?`` for one, ``[03]``
        for one of these. What begins with ``!`` leaves out. A step's taps match with
        and without their ``step001/``.

    Raises
    ------
    ValueError
        If a pattern matches no name, or nothing is left.
    """
    matched = {
        pattern: _matches(pattern.removeprefix(NOT), names) for pattern in patterns
    }
    idle = [pattern for pattern, found in matched.items() if not found]
    if idle:
        msg = f"taps: {idle[0]!r} matches none of the {len(names)} taps, {names[0]} to "
        raise ValueError(msg + f"{names[-1]}; * stands for any letters, slashes too")
    without = {n for p, found in matched.items() if p.startswith(NOT) for n in found}
    asked = [found for p, found in matched.items() if not p.startswith(NOT)]
    wanted = set(names) if not asked else set().union(*asked)
    chosen = [name for name in names if name in wanted - without]
    if not chosen:
        msg = f"taps: {' '.join(patterns)} leaves none of the {len(names)} taps"
        raise ValueError(msg)
    return chosen


def _matches(pattern: str, names: Sequence[str]) -> set[str]:
    """Find the names that match a pattern, with or without their step."""
    return {
        name
        for name in names
        if fnmatchcase(name, pattern) or fnmatchcase(STEP.sub("", name), pattern)
    }
