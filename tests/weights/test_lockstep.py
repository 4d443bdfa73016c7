"""Two runs in lockstep: nothing kept, nothing hung, whoever fails; ours unrounded."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lockstep import AHEAD, Meeting, errors_in_lockstep
from report import dtype_of
from tiny import random_tensors, stored, write_checkpoint, write_safetensors

MASK = np.array([[0, 1, 1]])
Put = Callable[[Meeting], object]


def rows(number: float) -> np.ndarray:
    """One row of three tokens, the first of them padding."""
    return np.array([[[99.0 * number], [number], [4.0]]])


def asks_for(*names: str) -> Callable[..., None]:
    """Stand for ours: a run that shows these taps, all alike."""

    def run(tap: Callable[[str, np.ndarray], np.ndarray]) -> None:
        for name in names:
            tap(name, rows(1))

    return run


def test_errors_come_in_our_order_padding_left_out() -> None:
    def theirs(meeting: Meeting) -> None:
        meeting["b"], meeting["a"] = rows(1), rows(2)

    errors = errors_in_lockstep(asks_for("a", "b"), theirs, MASK)
    assert list(errors.items()) == [("a", 0.25), ("b", 0.0)]


def test_theirs_waits_when_it_is_far_ahead() -> None:
    names, most = [str(i) for i in range(3 * AHEAD)], 0

    def theirs(meeting: Meeting) -> None:
        nonlocal most
        for name in names:
            meeting[name] = rows(1)
            most = max(most, len(meeting._waiting))

    errors_in_lockstep(asks_for(*names), theirs, MASK)
    assert most <= AHEAD


@pytest.mark.parametrize("fails", [False, True])
def test_a_tap_that_theirs_does_not_come_to_is_named(fails: bool) -> None:
    def theirs(meeting: Meeting) -> None:
        meeting["a"] = rows(1)
        if fails:
            raise MemoryError

    with pytest.raises(RuntimeError, match="did not come to b") as caught:
        errors_in_lockstep(asks_for("a", "b"), theirs, MASK)
    assert isinstance(caught.value.__cause__, MemoryError) == fails


def test_theirs_is_sent_away_when_ours_fails() -> None:
    def ours(_: object) -> None:
        raise ZeroDivisionError

    def theirs(meeting: Meeting) -> None:
        for i in range(2 * AHEAD):
            meeting[str(i)] = rows(1)

    with pytest.raises(ZeroDivisionError):
        errors_in_lockstep(ours, theirs, MASK)


@pytest.mark.parametrize(
    ("dtypes", "held"),
    [
        (["BF16"], "bfloat16"),
        (["F16"], "float16"),
        (["F32"], "float32"),
        (["F16", "BF16"], "float32"),
    ],
)
def test_ours_is_held_as_the_files_are(
    tmp_path: Path, dtypes: list[str], held: str
) -> None:
    folder = write_checkpoint(tmp_path)
    tensors = enumerate(random_tensors().items())
    files = {n: stored(x, dtypes[i % len(dtypes)]) for i, (n, x) in tensors}
    write_safetensors(folder / "model.safetensors", files)
    assert dtype_of(folder) == held
