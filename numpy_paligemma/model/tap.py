"""Taps: look at, or replace, any intermediate array by its name.

A tap is called as ``x = tap(name, x)`` where `x` is born, and what it returns is what
the model goes on with. The same hook therefore records, compares on the fly, drives a
progress bar, or switches a head off. Names are paths, such as
``decoder/block03/attention/probs``; they are public and stable.
"""

from collections.abc import Callable

import numpy as np

Tap = Callable[[str, np.ndarray], np.ndarray]


def no_tap(name: str, x: np.ndarray) -> np.ndarray:  # noqa: ARG001  a tap's signature
    """Let `x` pass."""
    return x


def scoped(tap: Tap, scope: str) -> Tap:
    """Put ``scope/`` before every name that reaches `tap`."""
    if tap is no_tap:
        return no_tap
    return lambda name, x: tap(f"{scope}/{name}", x)


def recorder() -> tuple[Tap, dict[str, np.ndarray]]:
    """Make a tap that keeps every array, and the dictionary it fills, in order.

    The arrays are kept, not copied: no layer writes into an array it has tapped.
    """
    kept: dict[str, np.ndarray] = {}

    def record(name: str, x: np.ndarray) -> np.ndarray:
        kept[name] = x
        return x

    return record, kept
