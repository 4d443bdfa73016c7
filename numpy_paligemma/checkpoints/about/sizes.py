"""How many numbers a model has learned, part by part, from its shapes alone."""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from numpy_paligemma.checkpoints.assemble import paligemma_weights
from numpy_paligemma.checkpoints.names import EMBEDDING, PROJECTOR, VISION
from numpy_paligemma.model.config import PaliGemmaConfig


@dataclass(frozen=True, slots=True)
class Parameters:
    """How many numbers each part has learned; an untied head counts as decoder."""

    vision: int
    projector: int
    embedding: int
    decoder: int
    matrices: int  # of all these, those that are held as `--dtype` says

    @property
    def total(self) -> int:
        """All of them."""
        return self.vision + self.projector + self.embedding + self.decoder


class _Count:
    """A take that reads nothing and counts numbers."""

    def __init__(self) -> None:
        self.parts: Counter[str] = Counter()
        self.matrices = 0

    def matrix(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Count a matrix."""
        self.matrices += math.prod(shape)
        return self.vector(name, shape)

    def vector(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Count a small tensor."""
        self.parts[_part(name)] += math.prod(shape)
        return np.empty(0)


def _part(name: str) -> str:
    """Say which part of the model a tensor belongs to, by its published name."""
    if name.startswith(VISION):
        return "vision"
    if name.startswith(PROJECTOR):
        return "projector"
    return "embedding" if name == EMBEDDING else "decoder"


def count_parameters(c: PaliGemmaConfig) -> Parameters:
    """Count the numbers of a model of these sizes, by the lines that load it."""
    count = _Count()
    paligemma_weights(count, c, tied=c.text.tied)
    return Parameters(**count.parts, matrices=count.matrices)
