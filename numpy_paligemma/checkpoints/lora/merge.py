"""A LoRA adapter merged into its base, matrix by matrix as they are read.

Worked out in float32, in float64 where all is, and then held as everything is: 16 bits
a number round once more, which an adapter kept apart would not.

References
----------
Hu et al. (2021), https://arxiv.org/abs/2106.09685, section 4.1; for the magnitudes Liu
et al. (2024), https://arxiv.org/abs/2402.09353, equation 5.
"""

import logging
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from numpy_paligemma.arrays.hold import hold_matrix, hold_vector
from numpy_paligemma.checkpoints.assemble import Take
from numpy_paligemma.checkpoints.lora.adapter import FILE, Adapter, Update
from numpy_paligemma.checkpoints.tensor import Tensor
from numpy_paligemma.model.layers import Matrix

log = logging.getLogger(__name__)
ROWS = 1024  # merged at a time, so that B · A is never there whole


@dataclass(frozen=True, slots=True)
class Change:
    """What an adapter did to one matrix, in Frobenius norms."""

    name: str  # as published
    rank: int
    scale: float  # s
    change: float  # ‖W' – W‖
    base: float  # ‖W‖

    @property
    def share(self) -> float:
        """How large the change is beside the matrix."""
        return self.change / self.base if self.base else math.inf


class Merging:
    """A take that adds an adapter's changes to what another one would read."""

    def __init__(
        self, inner: Take, tensors: Mapping[str, Tensor], dtype: str, adapter: Adapter
    ) -> None:
        self.inner, self.tensors, self.dtype, self.adapter = (
            inner,
            tensors,
            dtype,
            adapter,
        )
        self.changes: list[Change] = []

    def matrix(self, name: str, shape: tuple[int, ...]) -> Matrix:
        """Take a matrix, changed if the adapter changes it."""
        if name not in self.adapter.updates:
            return self.inner.matrix(name, shape)
        return hold_matrix(self._merged(name, shape), self.dtype)

    def vector(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Take a small tensor likewise: a bias, or the position table."""
        if name in self.adapter.updates:
            return self._merged(name, shape)
        x = self.inner.vector(name, shape)
        if name not in self.adapter.biases:
            return x
        added, scale = self.adapter.biases[name]
        return x + scale * hold_vector(added.read(), self.dtype)

    def _merged(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Work one matrix out, (out, in), and note how far it moved."""
        stored = self.tensors[name].read().reshape(shape[0], -1)
        w = hold_vector(stored, self.dtype)
        w = w.copy() if np.may_share_memory(w, stored) else w
        update = self.adapter.updates[name]
        change, base = add_update(w, update, self.dtype)
        if not math.isfinite(change):
            msg = f"{self.adapter.folder / FILE}: {name}: the change is not finite: "
            raise ValueError(msg + "the adapter, or the model, holds NaN or infinity")
        self.changes.append(Change(name, update.rank, update.scale, change, base))
        return w


def add_update(w: np.ndarray, update: Update, dtype: str) -> tuple[float, float]:
    """Change a matrix in place; the norms of the change and of the matrix.

        W' = W + s · B · A,    or with magnitudes m    m · (W + s · B · A) / ‖…‖ a row

    Parameters
    ----------
    w : float array, (out, in)
    update : Update
    dtype : str
        That in which everything is held.
    """
    a, b = (hold_vector(x.read(), dtype) for x in (update.a, update.b))
    left, right = (a.T, b.T) if update.looked_up else (b, a)
    left, right = left.reshape(len(w), -1), right.reshape(update.rank, -1)
    magnitude = update.magnitude
    lengths = None if magnitude is None else hold_vector(magnitude.read(), dtype)
    squares = np.zeros(2)  # of the change and of the matrix
    for start in range(0, len(w), ROWS):
        rows = slice(start, start + ROWS)
        old = w[rows]
        new = old + update.scale * (left[rows] @ right)  # (rows, in)
        if lengths is not None:
            new *= (lengths[rows] / np.linalg.norm(new, axis=1))[:, None]
        squares += [np.sum(np.square(x), dtype=np.float64) for x in (new - old, old)]
        w[rows] = new
    change, base = np.sqrt(squares).tolist()
    return change, base


def tell(changes: Sequence[Change], adapter: Adapter, dtype: str) -> None:
    """Sum up what an adapter did, in a line; warn of one that did nothing."""
    if not any(change.change for change in changes):
        log.warning(
            "warning: %s: every B · A is nought, as before training: nothing is changed",
            adapter.folder,
        )
        return
    least, most = (
        pick(changes, key=lambda change: change.share) for pick in (min, max)
    )
    whole = len(adapter.replaced)
    log.info(
        "adapter: %d matrices changed by %.2g (%s) to %.2g (%s) of their norm, "
        "median %.2g%s%s",
        *(len(changes), least.share, _short(least), most.share, _short(most)),
        statistics.median(change.share for change in changes),
        f"; {whole} replaced" if whole else "",
        "" if dtype in {"float32", "float64"} else f"; as {dtype}",
    )


def _short(change: Change) -> str:
    """Name a matrix by its tower, block and last word, as a line has room for."""
    front, _, rest = change.name.removesuffix(".weight").partition(".layers.")
    tower, last = front.partition("_")[0], (rest or front).rpartition(".")[2]
    return f"{tower} {rest.partition('.')[0]} {last}" if rest else last


def warn_of_another_base(adapter: Adapter, model: str) -> None:
    """Warn where an adapter was trained on a checkpoint of another name."""
    base = adapter.config.base
    if base and _last(base) != _last(model):
        log.warning(
            "warning: the adapter was trained on %s and is put on %s; if that is another "
            "checkpoint, its answers mean little",
            *(base, model),
        )


def _last(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].casefold()
