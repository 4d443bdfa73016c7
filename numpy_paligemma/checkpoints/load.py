"""Weights from a folder: every tensor accounted for before a byte is read.

The model is built twice by the same lines: first with a `take` that only holds names
and shapes against the file's list, so that one message can name everything that is
wrong; then with a `take` that reads.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from numpy_paligemma.arrays.hold import hold_matrix, hold_vector
from numpy_paligemma.checkpoints.assemble import paligemma_weights
from numpy_paligemma.checkpoints.names import (
    BUFFERS,
    EMBEDDING,
    GEMMA_2_ONLY,
    HEAD,
    POOLING_HEAD,
    canonical_name,
)
from numpy_paligemma.checkpoints.safetensors import (
    DTYPES,
    StoredTensor,
    list_tensors,
)
from numpy_paligemma.model.config import PaliGemmaConfig
from numpy_paligemma.model.layers import Matrix
from numpy_paligemma.model.pipeline import PaliGemmaWeights

log = logging.getLogger(__name__)
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
        a number is too large for float16.
    """
    tensors = _by_published_name(folder)
    blocks = c.vision.depth + c.text.depth
    if blocks > len(tensors):
        msg = f"{folder}: config.json asks for {blocks} blocks, but there are only "
        raise ValueError(msg + f"{len(tensors)} tensors")
    _require_one_family(folder, tensors, c)
    ledger = _Ledger(tensors)
    paligemma_weights(ledger, c, tied=c.text.tied and HEAD not in tensors)
    ledger.balance(folder)
    return paligemma_weights(_Reader(tensors, dtype), c, tied=_is_tied(tensors))


def _require_one_family(
    folder: Path, tensors: Mapping[str, StoredTensor], c: PaliGemmaConfig
) -> None:
    """Refuse one family's config on the other's tensors: some names are common."""
    families = ("PaliGemma 1", "PaliGemma 2")
    found = any(GEMMA_2_ONLY.search(name) for name in tensors)
    if found != c.text.post_norms:
        msg = (
            f"{folder}: config.json is of a {families[c.text.post_norms]}, the tensors "
            f"are of a {families[found]}; take both from one checkpoint"
        )
        raise ValueError(msg)


def _by_published_name(folder: Path) -> dict[str, StoredTensor]:
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

    def matrix(self, name: str, shape: tuple[int, ...]) -> Matrix:
        """Read a matrix, held as asked."""
        stored = self.tensors[name].read().reshape(shape[0], -1)
        return hold_matrix(stored, self.dtype)

    def vector(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Read a small tensor, in the dtype of the arithmetic."""
        return hold_vector(self.tensors[name].read().reshape(shape), self.dtype)


def _some(names: list[str]) -> str:
    """Name a few and count the rest."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
