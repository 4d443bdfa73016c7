"""Which tensor is to blame, looked for only when an answer cannot be drawn.

Reading gigabytes at every load, only to find them sound, is too dear. But a NaN or an
infinity anywhere in the model ends in logits that are not finite: so the logits are
looked at, which costs nothing, and the weights only after that.
"""

from pathlib import Path

import numpy as np

from numpy_paligemma.arrays.hold import to_float32
from numpy_paligemma.checkpoints.listing import published_tensors
from numpy_paligemma.checkpoints.lora.adapter import Adapter
from numpy_paligemma.checkpoints.safetensors import DTYPES
from numpy_paligemma.checkpoints.tensor import Tensor

NUMBERS = 1 << 22  # looked at together: 16 MB of float32


def check_logits(logits: np.ndarray, place: Path | None) -> None:
    """Refuse logits from which no answer can be drawn, and name what is to blame.

    Parameters
    ----------
    logits : float array, (B, V), on the host
    place : Path, optional
        Where the weights came from.

    Raises
    ------
    ValueError
        If one is NaN or infinite.
    """
    if np.isfinite(logits).all():
        return
    _blame(place)
    msg = (
        "the logits are not finite, and no tensor of the checkpoint's own files is to "
        "blame: the numbers grow too large for this dtype; try float64"
    )
    raise ValueError(msg)


def check_soft_tokens_finite(soft_tokens: np.ndarray, place: Path | None) -> None:
    """Refuse soft tokens that hold NaN or infinity; on a device they stay unseen."""
    if type(soft_tokens) is np.ndarray and not np.isfinite(soft_tokens).all():
        _blame(place)
        msg = "soft_tokens: expected finite numbers, came NaN or infinity"
        raise ValueError(msg)


def _blame(place: Path | None) -> None:
    """Refuse a checkpoint of which a tensor is to blame."""
    culprit = None if place is None else _first_that_is_not_finite(place)
    if culprit is not None:
        msg = f"{culprit}; download it again, or ask whoever made it"
        raise ValueError(msg)


def check_adapter(adapter: Adapter) -> None:
    """Refuse an adapter that has NaN or infinity where it is taken as it is.

    Its factors are looked at as they are merged. Nobody would look at these again: the
    checkpoint's own files are sound.

    Raises
    ------
    ValueError
        For the first such tensor.
    """
    biases = [bias for bias, _ in adapter.biases.values()]
    for tensor in [*adapter.replaced.values(), *adapter.bases.values(), *biases]:
        if held := _holds(tensor):
            msg = f"{tensor.path}: {tensor.name} holds {held}; ask whoever trained it"
            raise ValueError(msg)


def _first_that_is_not_finite(place: Path) -> str | None:
    """Find the first tensor that holds NaN or infinity: its file, its name, and which."""
    for tensor in published_tensors(place).values():
        if tensor.dtype in DTYPES and (held := _holds(tensor)):
            return f"{tensor.path}: {tensor.name} holds {held}"
    return None


def _holds(tensor: Tensor) -> str | None:
    """Say what a tensor holds besides numbers."""
    stored = tensor.read().reshape(-1)
    for start in range(0, len(stored), NUMBERS):
        part = to_float32(stored[start : start + NUMBERS])
        if not np.isfinite(part).all():
            return "NaN" if np.isnan(part).any() else "infinity"
    return None
