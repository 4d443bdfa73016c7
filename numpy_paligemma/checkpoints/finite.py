"""Which tensor is to blame, looked for only when an answer cannot be drawn.

Reading gigabytes at every load, only to find them sound, is too dear. A NaN or infinity
anywhere in the model ends in logits that are not finite, and an embedding of zeros in
logits that are all the same: so the logits are looked at, and the weights after that.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from numpy_paligemma.arrays.hold import to_float32
from numpy_paligemma.checkpoints.load import published_tensors
from numpy_paligemma.checkpoints.safetensors import DTYPES, StoredTensor

NUMBERS = 1 << 22  # looked at together: 16 MB of float32


def check_logits(logits: np.ndarray, folder: Path | None) -> None:
    """Refuse logits from which no answer can be drawn, and name what is to blame.

    Parameters
    ----------
    logits : float array, (B, V), on the host
    folder : Path, optional
        Where the weights came from.

    Raises
    ------
    ValueError
        If one is NaN or infinite, or all of a row are the same.
    """
    told = "the logits are not finite"
    is_wrong = _is_not_finite
    if np.isfinite(logits).all():
        if np.ptp(logits, axis=-1).all():
            return
        told, is_wrong = "the logits are all the same", _is_zero_matrix
    culprit = None if folder is None else _first(folder, is_wrong)
    if culprit is not None:
        msg = f"{culprit}; download it again, or ask whoever made it"
        raise ValueError(msg)
    msg = f"{told}, though no tensor is NaN, infinite or all zeros: "
    raise ValueError(msg + "the numbers are not those of a trained model")


def _first(folder: Path, is_wrong: Callable[[StoredTensor], str]) -> str | None:
    """Find the first tensor that is wrong: its file, its name, and how."""
    for tensor in published_tensors(folder).values():
        if tensor.dtype in DTYPES and (how := is_wrong(tensor)):
            return f"{tensor.path}: {tensor.name} {how}"
    return None


def _is_not_finite(tensor: StoredTensor) -> str:
    """Say what a tensor holds besides numbers."""
    stored = tensor.read().reshape(-1)
    for start in range(0, len(stored), NUMBERS):
        part = to_float32(stored[start : start + NUMBERS])
        if not np.isfinite(part).all():
            return "holds NaN" if np.isnan(part).any() else "holds infinity"
    return ""


def _is_zero_matrix(tensor: StoredTensor) -> str:
    """Say whether a matrix says nothing; gains and biases may be nought."""
    return "" if len(tensor.shape) < 2 or tensor.read().any() else "is all zeros"
