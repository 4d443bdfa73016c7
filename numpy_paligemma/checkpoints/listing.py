"""A checkpoint's tensors by published name, whatever files they lie in."""

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from numpy_paligemma.checkpoints.big_vision.archive import SUFFIX, archive_tensors
from numpy_paligemma.checkpoints.faults import some
from numpy_paligemma.checkpoints.names import (
    BUFFERS,
    EMBEDDING,
    HEAD,
    POOLING_HEAD,
    canonical_name,
)
from numpy_paligemma.checkpoints.safetensors import list_tensors
from numpy_paligemma.checkpoints.tensor import Tensor, Tensors

log = logging.getLogger(__name__)
ROWS = 1024  # compared at a time


def published_tensors(place: Path) -> Tensors:
    """List the tensors of a folder or an `.npz`, those that we leave out taken off.

    Raises
    ------
    ValueError
        If a file is missing or damaged, or a name is there twice.
    """
    if place.suffix == SUFFIX:
        return {**archive_tensors(place)}
    listed = [(canonical_name(t.name), t) for t in list_tensors(place)]
    twice = [name for name, n in Counter(name for name, _ in listed).items() if n > 1]
    if twice:
        msg = f"{place}: {some(twice)} there more than once, under names that mean the "
        raise ValueError(msg + "same")
    tensors: Tensors = dict(listed)
    pooling = [name for name in tensors if POOLING_HEAD.search(name)]
    if pooling:
        log.info("left out: SigLIP's pooling head (%d tensors)", len(pooling))
    for name in list(tensors):
        if BUFFERS.search(name) or name in pooling:
            del tensors[name]
    if EMBEDDING not in tensors and HEAD in tensors:
        tensors[EMBEDDING] = tensors.pop(HEAD)
    return tensors


def is_tied(tensors: Mapping[str, Tensor]) -> bool:
    """Say whether the head is the embedding: not there, or a copy to the last bit."""
    if HEAD not in tensors:
        return True
    head, embedding = tensors[HEAD], tensors[EMBEDDING]
    tied = head.dtype == embedding.dtype and _same_bits(head.read(), embedding.read())
    log.info("the head %s the embedding", "is a copy of" if tied else "differs from")
    return tied


def _same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Compare some rows at a time: what says where they differ is as large as they."""
    return all(
        np.array_equal(a[i : i + ROWS].view(np.uint8), b[i : i + ROWS].view(np.uint8))
        for i in range(0, len(a), ROWS)
    )
