"""What a model costs, from its shapes alone: parameters, and memory by dtype."""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from numpy_paligemma.arrays.hold import HELD_DTYPES
from numpy_paligemma.arrays.matrix import TILE_NUMBERS
from numpy_paligemma.checkpoints.assemble import paligemma_weights
from numpy_paligemma.checkpoints.names import EMBEDDING, PROJECTOR, VISION
from numpy_paligemma.model.config import PaliGemmaConfig

SINGLE, DOUBLE = 4, 8  # bytes of a float32, a float64
# arrays of the largest kind that are alive at once, counted in the formulas
SCORES, HIDDEN, STREAMS, PICTURES = 3, 5, 10, 2


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


@dataclass(frozen=True, slots=True)
class Bill:
    """Bytes of memory that one dtype takes."""

    weights: int
    cache: int
    activations: int

    @property
    def total(self) -> int:
        """All of them together."""
        return self.weights + self.cache + self.activations


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


def memory_bills(c: PaliGemmaConfig, tokens: int) -> dict[str, Bill]:
    """Work out what every `--dtype` takes for one picture, answered in one row.

    Parameters
    ----------
    c : PaliGemmaConfig
    tokens : int
        Positions in all: soft tokens, prompt and answer.

    Returns
    -------
    dict of dtype to Bill
    """
    return {dtype: _bill(c, tokens, dtype) for dtype in HELD_DTYPES}


def _bill(c: PaliGemmaConfig, tokens: int, dtype: str) -> Bill:
    """Work out one dtype's bytes: 16-bit matrices are multiplied in float32."""
    number = DOUBLE if dtype == "float64" else SINGLE
    held = number if dtype in {"float32", "float64"} else 2
    tile = 0 if held == number else min(TILE_NUMBERS, c.text.vocab_size * c.text.width)
    sizes = count_parameters(c)
    rest = sizes.total - sizes.matrices
    cache = 2 * c.text.depth * c.text.kv_heads * c.text.head_dim * tokens
    return Bill(
        weights=sizes.matrices * held + rest * number,
        cache=cache * number,
        activations=_largest_activations(c, tokens) * number + tile * SINGLE,
    )


def _largest_activations(c: PaliGemmaConfig, tokens: int) -> int:
    """Count the numbers alive at the widest place of either tower.

    That is where probabilities are made of scores, (N, T, T), or where the MLP bends
    its hidden layer, (T, F); around it a few arrays as wide as the residual stream, and
    the picture.
    The whole answer is taken for prefix here: it is the longest that can be asked.
    """
    P = c.vision.patches
    eye = max(SCORES * c.vision.heads * P**2, HIDDEN * P * c.vision.mlp_width)
    eye += STREAMS * P * c.vision.width
    text = max(SCORES * c.text.heads * tokens**2, HIDDEN * tokens * c.text.mlp_width)
    text += STREAMS * tokens * c.text.width
    picture = c.vision.channels * c.vision.image_size**2
    return max(eye, text) + PICTURES * picture
