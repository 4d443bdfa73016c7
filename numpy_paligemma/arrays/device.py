"""Where the arrays live: the one file that knows of CuPy.

The formulas say ``np.`` and NumPy's own protocols hand a CuPy array on to CuPy. So a
drop-in is: put the weights on the GPU, and the functions follow. What they are given
each time, token ids, is sent; what comes back is a row of logits.
"""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from numpy_paligemma.arrays.matrix import HeldMatrix
from numpy_paligemma.model.parallel import on_host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEVICES = ("auto", "cpu", "cuda")
LIBRARIES = {"cupy", "cupy_backends"}  # whose errors are a device's


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
    except ImportError as error:
        if error.name == "cupy":
            return "CuPy is not installed"
        return f"CuPy cannot be imported ({error})"
    try:
        if not cupy.cuda.runtime.getDeviceCount():
            return "CuPy finds no GPU"
        square = cupy.ones((2, 2), np.float32)
        (square @ square + 1).get()  # needs CUDA's libraries, too, and its compiler
    except (RuntimeError, ImportError, OSError) as error:
        return f"CuPy cannot compute ({_one_line(error)})"
    return None


def to_device(weights: Any, device: str) -> Any:
    """Copy a tree of weights to a device, once; "cpu" leaves it as it is.

    Matrices stay as they are held, in 8, 16 or 32 bits a number.

    Raises
    ------
    MemoryError
        If the weights are more than the memory that is free there, before any is sent.
    """
    if device == "cpu":
        return weights
    import cupy  # noqa: PLC0415  optional

    parts: list[np.ndarray] = []
    map_arrays(weights, parts.append)
    needed = sum(part.nbytes for part in parts)
    free, _ = cupy.cuda.runtime.memGetInfo()
    if needed > free:
        msg = f"device cuda: the weights are {needed / 1e9:.3g} GB, the GPU has "
        msg += f"{free / 1e9:.3g} GB free; use --dtype int8 or bfloat16, if they are "
        raise MemoryError(msg + "not, or --device cpu")
    with device_errors():
        return map_arrays(weights, cupy.asarray)


def to_host(x: Any) -> np.ndarray:
    """Bring an array back from wherever it is."""
    return x if on_host(x) else x.get()


@contextmanager
def device_errors() -> Iterator[None]:
    """Tell a device's own errors in a line with the way out: a run may lie in one.

    Raises
    ------
    MemoryError
        If the device has too little memory.
    OSError
        If anything else fails there.
    """
    try:
        yield
    except MemoryError as error:
        if not _of_device(error):
            raise
        msg = f"device cuda: {_one_line(error)}; use --dtype int8, fewer rows at once, "
        raise MemoryError(msg + "or --device cpu") from error
    except Exception as error:
        if not _of_device(error):
            raise
        msg = f"device cuda: {_one_line(error)}; use --device cpu"
        raise OSError(msg) from error


def _of_device(error: Exception) -> bool:
    """Say whether CuPy, or what lies below it, has raised this."""
    return type(error).__module__.partition(".")[0] in LIBRARIES


def _one_line(error: Exception) -> str:
    """Give the first line of what an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


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
            moved[id(node)] = _move(node, move)
        return moved[id(node)]

    return walk(tree)


def _move(node: Any, move: Callable[[np.ndarray], Any]) -> Any:
    """Move an array, or those that a held matrix is made of."""
    if not isinstance(node, HeldMatrix):
        return move(node)
    scales = None if node.scales is None else move(node.scales)
    return HeldMatrix(move(node.numbers), node.form, scales)
