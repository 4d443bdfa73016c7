"""All that is wrong with a file's names in one message: a few named, the rest counted."""

from collections.abc import Mapping, Sequence

SHOWN = 5  # names of one kind in a message


def tell(faults: Mapping[str, Sequence[str]]) -> str:
    """Say how many names have each fault, and which: "" where there is none.

    ``{"missing": ["a", "b"], "unexpected": []}`` -> ``"2 missing (a, b)"``
    """
    return "; ".join(
        f"{len(names)} {fault} ({some(names)})"
        for fault, names in faults.items()
        if names
    )


def some(names: Sequence[str]) -> str:
    """Name a few and count the rest."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
