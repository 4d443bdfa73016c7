"""Weights from a folder: every tensor accounted for before a byte is read.

The model is built twice by the same lines: first with a `take` that only holds names
and shapes against the file's list, so that one message can name everything that is
wrong; then with a `take` that reads.
"""

import logging
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from numpy_paligemma.arrays.hold import hold_matrix, hold_vector
from numpy_paligemma.checkpoints.about.room import require_room_to_load
from numpy_paligemma.checkpoints.assemble import paligemma_weights
from numpy_paligemma.checkpoints.faults import told
from numpy_paligemma.checkpoints.finite import check_adapter
from numpy_paligemma.checkpoints.listing import is_tied, published_tensors
from numpy_paligemma.checkpoints.lora.adapter import Adapter
from numpy_paligemma.checkpoints.lora.fit import fit
from numpy_paligemma.checkpoints.lora.merge import Change, Merging, tell
from numpy_paligemma.checkpoints.names import (
    FAMILIES,
    GEMMA_2_ONLY,
    HEAD,
)
from numpy_paligemma.checkpoints.safetensors import DTYPES, PLAIN_NAMES
from numpy_paligemma.checkpoints.tensor import Tensor
from numpy_paligemma.model.config import PaliGemmaConfig
from numpy_paligemma.model.layers import Matrix
from numpy_paligemma.model.pipeline import PaliGemmaWeights

log = logging.getLogger(__name__)
NOTED_SECONDS = 1.0  # what takes longer to convert is worth a line


def load_weights(
    place: Path,
    c: PaliGemmaConfig,
    dtype: str,
    adapter: Adapter | None = None,
    changes: list[Change] | None = None,
) -> PaliGemmaWeights:
    """Load a checkpoint's weights.

    Parameters
    ----------
    place : Path
        A folder in Hugging Face form, any of the published layouts; or big_vision's
        ``.npz``.
    c : PaliGemmaConfig
    dtype : {"bfloat16", "float16", "float32", "float64", "int8"}
        How matrices are held; "int8" includes embedding and head.
    adapter : Adapter, optional
        Merged in.
    changes : list of Change, optional
        What the adapter did is appended, matrix by matrix.

    Returns
    -------
    PaliGemmaWeights

    Raises
    ------
    MemoryError
        If there is too little memory, before any of the bytes is read.
    ValueError
        If anything is missing, unexpected, or of another shape or dtype: all of it in
        one message, before any of the bytes is read. Also if a name is there twice, or
        a number is too large for float16, a matrix is all zeros, or a tensor that an
        adapter has whole is not finite.
    """
    tensors = published_tensors(place)
    blocks = c.vision.depth + c.text.depth
    if blocks > len(tensors):
        msg = f"{place}: config.json asks for {blocks} blocks, but there are only "
        raise ValueError(msg + f"{len(tensors)} tensors")
    _require_one_family(place, tensors, c)
    ledger = _Ledger(tensors)
    paligemma_weights(ledger, c, tied=c.text.tied and HEAD not in tensors)
    ledger.balance(place)
    tied = is_tied(tensors)
    if adapter is not None:
        tensors, tied = fit(adapter, tensors, tied=tied)
    changed = () if adapter is None else tuple(adapter.updates)
    require_room_to_load(place, c, dtype, tensors, changed, tied=tied)
    reader = _Reader(tensors, dtype)
    if adapter is None:
        weights = paligemma_weights(reader, c, tied=tied)
        reader.tell()
        return weights
    check_adapter(adapter)
    merging = Merging(reader, tensors, dtype, adapter)
    weights = paligemma_weights(merging, c, tied=tied)
    tell(merging.changes, adapter, dtype)
    if changes is not None:
        changes += merging.changes
    return weights


def _require_one_family(
    place: Path, tensors: Mapping[str, Tensor], c: PaliGemmaConfig
) -> None:
    """Refuse one family's config on the other's tensors: some names are common."""
    found = any(GEMMA_2_ONLY.search(name) for name in tensors)
    if found != c.text.post_norms:
        msg = (
            f"{place}: config.json is of a {FAMILIES[c.text.post_norms]}, the tensors "
            f"are of a {FAMILIES[found]}; take both from one checkpoint"
        )
        raise ValueError(msg)


class _Ledger:
    """A take that reads nothing and notes what does not agree."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors
        self.missing: list[str] = []
        self.misshapen: list[str] = []
        self.untaken = set(tensors)

    def matrix(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Check a tensor off."""
        self.untaken.discard(name)
        found = self.tensors.get(name)
        if found is None:
            self.missing.append(name)
        elif found.shape != shape:
            self.misshapen.append(f"{name} expected {shape}, found {found.shape}")
        return np.empty(0)

    vector = matrix

    def balance(self, place: Path) -> None:
        """Raise if the file and the model do not hold the same tensors."""
        strange = [
            f"{t.name} is {t.dtype}"
            for t in self.tensors.values()
            if t.dtype not in DTYPES
        ]
        faults = {
            "missing": self.missing,
            "unexpected": sorted(self.untaken),
            "of another shape": self.misshapen,
            f"of another dtype than {', '.join(DTYPES)}": strange,
        }
        if any(faults.values()):
            msg = f"{place}: the tensors are not those that config.json asks for: "
            raise ValueError(msg + told(faults))


class _Reader:
    """A take that reads."""

    def __init__(self, tensors: Mapping[str, Tensor], dtype: str) -> None:
        self.tensors = tensors
        self.dtype = dtype
        self.converted: Counter[str] = Counter()  # matrices, by the file's dtype
        self.seconds = 0.0

    def matrix(self, name: str, shape: tuple[int, ...]) -> Matrix:
        """Read a matrix, held as asked."""
        began = time.perf_counter()
        stored = self.tensors[name]
        rows = stored.read().reshape(shape[0], -1)
        _refuse_zeros(stored, rows)
        held = hold_matrix(rows, self.dtype)
        if (found := PLAIN_NAMES[stored.dtype]) != self.dtype:
            self.converted[found] += 1
            self.seconds += time.perf_counter() - began
        return held

    def vector(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Read a small tensor, in the dtype of the arithmetic."""
        stored = self.tensors[name]
        x = stored.read().reshape(shape)
        if x.ndim > 1:  # the position table; gains and biases may well be zeros
            _refuse_zeros(stored, x)
        return hold_vector(x, self.dtype)

    def tell(self) -> None:
        """Tell what is held otherwise than the file has it, and what that took."""
        if self.converted:
            log.log(
                logging.INFO if self.seconds >= NOTED_SECONDS else logging.DEBUG,
                "converted %d matrices from %s to %s in %.1f s",
                self.converted.total(),
                " and ".join(self.converted),
                self.dtype,
                self.seconds,
            )


def _refuse_zeros(tensor: Tensor, rows: np.ndarray) -> None:
    """Refuse a matrix or table of zeros, the hole that an unfinished download leaves.

    Three rows are looked at, and all of them only where those are zeros.
    """
    few = rows[[0, len(rows) // 2, -1]]
    if not few.any() and not rows.any():
        msg = f"{tensor.path}: {tensor.name} is all zeros, as in an unfinished download"
        raise ValueError(msg + "; download it again")
