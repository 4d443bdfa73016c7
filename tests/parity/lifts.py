"""How a reference is made to work in float64: replacements by name, undone afterwards."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pytest

Lift = Callable[[pytest.MonkeyPatch], None]


def by_name(*lifts: Lift) -> dict[str, Lift]:
    """List lifts under their names."""
    return {lift.__name__: lift for lift in lifts}


@contextmanager
def all_but(without: str | None, lifts: Mapping[str, Lift]) -> Iterator[None]:
    """Lift everything, or everything but one, and undo it afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        for name, lift in lifts.items():
            if name != without:
                lift(patch)
        yield
