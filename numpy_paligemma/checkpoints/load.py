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
from numpy_paligemma.checkpoints.assemble import paligemma_weights
from numpy_paligemma.checkpoints.names import (
    BUFFERS,
    EMBEDDING,
    FAMILIES,
    GEMMA_2_ONLY,
    HEAD,
    POOLING_HEAD,
    canonical_name,
)
from numpy_paligemma.checkpoints.safetensors import (
    DTYPES,
    PLAIN_NAMES,
    StoredTensor,
    list_tensors,
)
from numpy_paligemma.model.config import PaliGemmaConfig
from numpy_paligemma.model.layers import Matrix
from numpy_paligemma.model.pipeline import PaliGemmaWeights

log = logging.getLogger(__name__)
NOTED_SECONDS = 1.0  # what takes longer to convert is worth a line
SHOWN = 5  # names of one kind in a message; the rest are counted


def load_weights(folder: Path, c: PaliGemmaConfig, dtype: str) -> PaliGemmaWeights:
    """Load a checkpoint's weights.

    Parameters
    ----------
    folder : Path
        In Hugging Face form, any of the published layouts.
    c : PaliGemmaConfig
    dtype : {"bfloat16", "float16", "float32", "float64"}
        How matrices are held.

    Returns
    -------
    PaliGemmaWeights

    Raises
    ------
    ValueError
        If anything is missing, unexpected, or of another shape or dtype: all of it in
        one message, before any of the bytes is read. Also if a name is there twice, or
        a number is too large for float16, or a matrix is all zeros.
    """
    tensors = published_tensors(folder)
    blocks = c.vision.depth + c.text.depth
    if blocks > len(tensors):
        msg = f"{folder}: config.json asks for {blocks} blocks, but there are only "
        raise ValueError(msg + f"{len(tensors)} tensors")
    _require_one_family(folder, tensors, c)
    ledger = _Ledger(tensors)
    paligemma_weights(ledger, c, tied=c.text.tied and HEAD not in tensors)
    ledger.balance(folder)
    reader = _Reader(tensors, dtype)
    weights = paligemma_weights(reader, c, tied=_is_tied(tensors))
    reader.tell()
    return weights


def _require_one_family(
    folder: Path, tensors: Mapping[str, StoredTensor], c: PaliGemmaConfig
) -> None:
    """Refuse one family's config on the other's tensors: some names are common."""
    found = any(GEMMA_2_ONLY.search(name) for name in tensors)
    if found != c.text.post_norms:
        msg = (
            f"{folder}: config.json is of a {FAMILIES[c.text.post_norms]}, the tensors "
            f"are of a {FAMILIES[found]}; take both from one checkpoint"
        )
        raise ValueError(msg)


def published_tensors(folder: Path) -> dict[str, StoredTensor]:
    """List the folder's tensors by published name, those that we leave out taken off."""
    listed = [(canonical_name(t.name), t) for t in list_tensors(folder)]
    twice = [name for name, n in Counter(name for name, _ in listed).items() if n > 1]
    if twice:
        msg = f"{folder}: {_some(twice)} there more than once, under names that mean the same"
        raise ValueError(msg)
    tensors = dict(listed)
    pooling = [name for name in tensors if POOLING_HEAD.search(name)]
    if pooling:
        log.info("left out: SigLIP's pooling head (%d tensors)", len(pooling))
    for name in list(tensors):
        if BUFFERS.search(name) or name in pooling:
            del tensors[name]
    if EMBEDDING not in tensors and HEAD in tensors:
        tensors[EMBEDDING] = tensors.pop(HEAD)
    return tensors


def _is_tied(tensors: Mapping[str, StoredTensor]) -> bool:
    """Say whether the head is the embedding: not there, or a copy to the last bit."""
    if HEAD not in tensors:
        return True
    head, embedding = tensors[HEAD], tensors[EMBEDDING]
    tied = head.dtype == embedding.dtype and np.array_equal(
        head.read().view(np.uint8), embedding.read().view(np.uint8)
    )
    log.info("the head %s the embedding", "is a copy of" if tied else "differs from")
    return tied


class _Ledger:
    """A take that reads nothing and notes what does not agree."""

    def __init__(self, tensors: Mapping[str, StoredTensor]) -> None:
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

    def balance(self, folder: Path) -> None:
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
        parts = [
            f"{len(names)} {kind} ({_some(names)})"
            for kind, names in faults.items()
            if names
        ]
        if parts:
            msg = f"{folder}: the tensors are not those that config.json asks for: "
            raise ValueError(msg + "; ".join(parts))


class _Reader:
    """A take that reads."""

    def __init__(self, tensors: Mapping[str, StoredTensor], dtype: str) -> None:
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
        return hold_vector(self.tensors[name].read().reshape(shape), self.dtype)

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


def _some(names: list[str]) -> str:
    """Name a few and count the rest."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _refuse_zeros(tensor: StoredTensor, rows: np.ndarray) -> None:
    """Refuse a matrix of zeros, the hole that an unfinished download leaves.

    Three rows are looked at, and all of them only where those are zeros.
    """
    few = rows[[0, len(rows) // 2, -1]]
    if not few.any() and not rows.any():
        msg = f"{tensor.path}: {tensor.name} is all zeros, as in an unfinished download"
        raise ValueError(msg + "; download it again")
