"""Interventions: a run with some of its arrays changed, to see what they are for.

    off = switch_off_heads("decoder/block02/attention/probs", [3])
    with intervening(off) as tap:
        model.generate(**inputs, tap=tap, do_sample=False)

An edit is for the taps whose names match its pattern (as a shell's: ``*`` stands for any
letters, slashes too) and for some steps: 0 is the prefill, or the one pass of `logits`;
1 reads the first new token, and so on. Positions are of tokens in what that pass reads:
those of a picture's first patches are 0, 1, 2 … Several edits act in turn.

References
----------
Vig et al. (2020), https://arxiv.org/abs/2004.12265, and Meng et al. (2022),
https://arxiv.org/abs/2202.05262, section 2.1: activations of another run put in.
"""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from numpy_paligemma.model.tap import Tap, no_tap

HEADS, TOKENS = (
    1,
    -2,
)  # the axes of (B, N, T, H), (B, N, T, S) and, the second, (B, T, D)
EVERY_STEP = range(10**9)


@dataclass(frozen=True, slots=True)
class Edit:
    """A change to every array of some taps and steps.

    Attributes
    ----------
    taps : str
        A pattern.
    change : callable
        Name and array to the array that the model goes on with; it does not write into
        the one that it is given.
    steps : container of int
    """

    taps: str
    change: Callable[[str, np.ndarray], np.ndarray]
    steps: Container[int] = EVERY_STEP


def switch_off_heads(
    taps: str, heads: Sequence[int], *, steps: Container[int] = EVERY_STEP
) -> Edit:
    """Make heads gather nothing, by noughts for what they have on axis 1.

    At ``…/attention/probs``, (B, N, T, S), a head adds nothing to its block's output;
    the other heads are as they were. Heads are counted from nought.
    """

    def change(name: str, x: np.ndarray) -> np.ndarray:
        if x.ndim != 4:
            msg = f"{name}: expected an array with heads, (B, N, T, S), came {x.shape}"
            raise ValueError(msg)
        _require_within(name, "heads", heads, x.shape[HEADS])
        out = x.copy()
        out[:, list(heads)] = 0
        return out

    return Edit(taps, change, steps)


def scale(
    taps: str,
    by: float,
    *,
    at: Sequence[int] | None = None,
    steps: Container[int] = EVERY_STEP,
) -> Edit:
    """Multiply by a number: everything, or what is at some positions; 0 takes it out."""

    def change(name: str, x: np.ndarray) -> np.ndarray:
        places = _places(name, at, x)
        out = x.copy()
        out[places] = x[places] * by
        return out

    return Edit(taps, change, steps)


def patch(
    taps: str,
    other: Mapping[str, np.ndarray],
    *,
    at: Sequence[int] | None = None,
    steps: Container[int] = (0,),
) -> Edit:
    """Put in what another run had: everything, or what it had at some positions.

    Parameters
    ----------
    taps : str
    other : mapping of a tap's name to its array
        Such as `recorder` fills. It keeps a name's last array, so record one pass.
    at : positions, optional
        The same in both runs, which may then read unequally many tokens.
    steps : container of int
    """

    def change(name: str, x: np.ndarray) -> np.ndarray:
        if name not in other:
            msg = f"{name}: the other run has no array of this name"
            raise ValueError(msg)
        theirs = other[name]
        if _without_tokens(theirs, at) != _without_tokens(x, at):
            msg = f"{name}: expected {x.shape}, the other run has {theirs.shape}"
            raise ValueError(msg)
        _places(name, at, theirs)
        places = _places(name, at, x)
        out = x.copy()
        out[places] = np.asarray(theirs, dtype=x.dtype, like=x)[places]
        return out

    return Edit(taps, change, steps)


@contextmanager
def intervening(*edits: Edit, then: Tap = no_tap) -> Iterator[Tap]:
    """Give a tap that makes the edits, and hands what has come of it to another.

    For one call of `generate`, `stream` or `logits`.

    Raises
    ------
    ValueError
        When the block ends, if an edit has had nothing to change; in the run, if an
        edit does not fit an array that it is for.
    """
    done = [0] * len(edits)
    step = 0

    def tap(name: str, x: np.ndarray) -> np.ndarray:
        nonlocal step
        for i, edit in enumerate(edits):
            if step in edit.steps and fnmatchcase(name, edit.taps):
                x = edit.change(name, x)
                done[i] += 1
        step += name == "logits"
        return then(name, x)

    yield tap
    for edit, times in zip(edits, done, strict=True):
        if not times:
            msg = f"taps: nothing that matches {edit.taps!r} came by in the edit's steps; "
            raise ValueError(msg + f"the run had {step}, counted from nought")


def _places(name: str, at: Sequence[int] | None, x: np.ndarray) -> Any:
    """Turn positions into an index of `x`, checked."""
    if at is None:
        return (...,)
    _require_within(name, "positions", at, x.shape[TOKENS])
    return (..., list(at), slice(None))


def _require_within(name: str, what: str, asked: Sequence[int], count: int) -> None:
    """Refuse numbers that are not 0 to `count` - 1."""
    if outside := [i for i in asked if not 0 <= i < count]:
        msg = f"{name}: expected {what} within 0 to {count - 1}, came {outside[0]}"
        raise ValueError(msg)


def _without_tokens(x: np.ndarray, at: Sequence[int] | None) -> tuple[int, ...]:
    """Give the shape that two runs must share: all of it, or all but the tokens."""
    shape = list(x.shape)
    if at is not None:
        del shape[TOKENS]
    return tuple(shape)
