"""Where the arrays live: the one file that knows of CuPy.

The formulas say ``np.`` and NumPy's own protocols hand a CuPy array on to CuPy. So a
drop-in is: put the weights on the GPU, and the functions follow.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from numpy_paligemma.arrays.matrix import HeldMatrix

if TYPE_CHECKING:
    from collections.abc import Callable

DEVICES = ("auto", "cpu", "cuda")


def choose_device(device: str) -> str:
    """Turn "auto" into "cuda" where CuPy finds a GPU, and into "cpu" elsewhere.

    Raises
    ------
    ValueError
        If "cuda" is asked for and cannot be had.
    """
    if device == "cpu":
        return device
    why = _why_no_cuda()
    if why is None:
        return "cuda"
    if device == "auto":
        return "cpu"
    msg = f"device cuda: {why}; install numpy-paligemma[cuda] on a machine with a GPU, "
    raise ValueError(msg + "or use --device cpu")


def _why_no_cuda() -> str | None:
    """Say why CuPy cannot be used, or None where it can."""
    try:
        import cupy  # noqa: PLC0415  optional, and slow to import
    except ImportError:
        return "CuPy is not installed"
    try:
        found = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"CuPy finds no GPU ({error})"
    return None if found else "CuPy finds no GPU"


def to_device(weights: Any, device: str) -> Any:
    """Copy a tree of weights to a device; "cpu" leaves it as it is.

    16-bit matrices are widened to float32 on the way: CuPy multiplies that.
    """
    if device == "cpu":
        return weights
    import cupy  # noqa: PLC0415  optional

    return map_arrays(weights, cupy.asarray)


def to_host(x: Any) -> np.ndarray:
    """Bring an array back from wherever it is."""
    return x if isinstance(x, np.ndarray) else x.get()


def map_arrays(tree: Any, move: Callable[[np.ndarray], Any]) -> Any:
    """Rebuild a tree of dataclasses and tuples with every array moved, once each.

    What is one object before, as a tied head and its embedding, is one object after.
    """
    moved: dict[int, Any] = {}

    def walk(node: Any) -> Any:
        if isinstance(node, tuple):
            parts = [walk(part) for part in node]
            return type(node)(*parts) if hasattr(node, "_fields") else tuple(parts)
        if dataclasses.is_dataclass(node) and not isinstance(node, type):
            fields = dataclasses.fields(node)
            return type(node)(**{f.name: walk(getattr(node, f.name)) for f in fields})
        if node is None:  # what only Gemma 2 has
            return None
        if id(node) not in moved:
            wide = node[:] if isinstance(node, HeldMatrix) else node
            moved[id(node)] = move(wide)
        return moved[id(node)]

    return walk(tree)
