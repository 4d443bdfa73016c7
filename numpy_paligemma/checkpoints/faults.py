"""All that is wrong with a list of tensors, in one line."""

from collections.abc import Mapping, Sequence

SHOWN = 5  # names of one kind in a message; the rest are counted


def some(names: Sequence[str]) -> str:
    """Name a few and count the rest."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def told(faults: Mapping[str, Sequence[str]]) -> str:
    """Join the kinds of fault that there are: ``2 missing (a, b); 1 unexpected (c)``."""
    return "; ".join(
        f"{len(names)} {kind} ({some(names)})"
        for kind, names in faults.items()
        if names
    )
