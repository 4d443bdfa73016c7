"""A LoRA adapter merged into its base: fitted to the base's tensors, then added.

A merge is worked out in float32 (in float64 where all is) and then held as everything
is: bfloat16 rounds once more, where peft without a merge would keep B · A apart.
"""

import logging
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from numpy_paligemma.arrays.hold import hold_matrix, hold_vector
from numpy_paligemma.checkpoints.assemble import Take
from numpy_paligemma.checkpoints.faults import told
from numpy_paligemma.checkpoints.lora import Adapter, Update
from numpy_paligemma.checkpoints.names import EMBEDDING, HEAD
from numpy_paligemma.checkpoints.tensor import Tensor
from numpy_paligemma.model.layers import Matrix

log = logging.getLogger(__name__)
ROWS = 1024  # merged at a time, so that B · A is never there whole


@dataclass(frozen=True, slots=True)
class Change:
    """What an adapter did to one matrix, in Frobenius norms."""

    name: str  # as published
    rank: int
    scale: float
    change: float  # ‖W' − W‖
    base: float  # ‖W‖

    @property
    def share(self) -> float:
        """How large the change is beside the matrix."""
        return self.change / self.base if self.base else math.inf


def fit(
    adapter: Adapter, tensors: Mapping[str, Tensor], *, tied: bool
) -> tuple[dict[str, Tensor], bool]:
    """Hold an adapter against the base, and put in what it has whole.

    An embedding and a head that are one are two from here on if either is changed: peft
    changes what is looked up and leaves the head, or the reverse.

    Returns
    -------
    tensors by published name, and whether the head still is the embedding

    Raises
    ------
    ValueError
        If a tensor does not fit, or a target has none: all of it in one line.
    """
    fitted = dict(tensors)
    if tied and {EMBEDDING, HEAD} & {*adapter.updates, *adapter.replaced}:
        trained_on = [adapter.bases[x] for x in (HEAD, EMBEDDING) if x in adapter.bases]
        fitted[EMBEDDING] = fitted[HEAD] = (*trained_on, tensors[EMBEDDING])[0]
        tied = False
    whole = dict(adapter.replaced) if tied else {**adapter.bases, **adapter.replaced}
    faults = {
        "for nothing that the model has": _strangers(adapter, fitted),
        "of another shape": [
            *(_other_shape(name, x, fitted[name]) for name, x in whole.items() if name in fitted),
        ],
    }
    return fitted, tied
