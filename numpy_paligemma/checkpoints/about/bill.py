"""What a model takes of memory, by dtype, rows and length, before any of it is taken.

Two kinds of memory are kept apart. A matrix that is held as the file has it is the
file's own pages: they can be dropped and read again. All else is the process's own.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from numpy_paligemma.arrays.hold import CONVERTED, HELD_DTYPES
from numpy_paligemma.arrays.matrix import TILE_NUMBERS
from numpy_paligemma.checkpoints.assemble import paligemma_weights
from numpy_paligemma.checkpoints.lora.merge import ROWS
from numpy_paligemma.checkpoints.safetensors import PLAIN_NAMES
from numpy_paligemma.model.config import PaliGemmaConfig
from numpy_paligemma.model.parallel import threads

SINGLE, DOUBLE = 4, 8  # bytes of a float32, a float64
HELD_BYTES = {"int8": 1, "bfloat16": 2, "float16": 2, "float32": 4, "float64": 8}
STORED_BYTES = {"BF16": 2, "F16": 2, "F32": 4}
# arrays of the largest kind that are alive at once, counted in the formulas
SCORES, HIDDEN, STREAMS, PICTURES, LOGITS = 2, 2, 8, 2, 2
DRAWING = 8  # float64 arrays as long as the vocabulary, for one row at a time
SCALE_BYTES = {"int8": SINGLE}  # a row
MERGING = 5  # blocks of rows, while an adapter is merged into a matrix
CONVERTING = 32  # bytes a number of a block, while it becomes another dtype
CONVERTING_IN_PLACE = {"int8": 8}
ANSWER_TOKENS = 100  # generate's own default


@dataclass(frozen=True, slots=True)
class Bill:
    """Bytes of memory that one dtype takes."""

    weights: int  # as held
    mapped: int  # of these, the file's own pages
    cache: int
    activations: int
    load_own: int  # the most that loading takes without the file's pages
    load_peak: int  # and with them

    @property
    def total(self) -> int:
        """All that there is while an answer is written."""
        return self.weights + self.cache + self.activations

    @property
    def needed(self) -> int:
        """What has to be there, be it while loading or while answering."""
        return max(self.load_own, self.total - self.mapped)


class Stored(NamedTuple):
    """How a tensor lies in its file."""

    dtype: str  # as safetensors spells it
    mapped: bool = True  # False if reading it gives a copy
    changed: bool = False  # True if an adapter is merged into it


Stores = Callable[[str], Stored]


def usual_tokens(c: PaliGemmaConfig) -> int:
    """Count the positions of a picture and a short prompt with its answer."""
    return c.vision.patches + ANSWER_TOKENS


def memory_bills(
    c: PaliGemmaConfig,
    tokens: int,
    rows: int = 1,
    stored: Stores = lambda _: Stored("BF16"),
    *,
    tied: bool | None = None,
) -> dict[str, Bill]:
    """Work out what every `--dtype` takes.

    Parameters
    ----------
    c : PaliGemmaConfig
    tokens : int
        Positions of a row in all: soft tokens, prompt and answer.
    rows : int
        Prompts answered at once, each with a picture.
    stored : callable
        Says how a tensor of a published name lies in its file; by default as bfloat16.
    tied : bool, optional
        Whether the head is the embedding, where the config does not know.

    Returns
    -------
    dict of dtype to Bill
    """
    return {
        dtype: memory_bill(c, dtype, tokens, rows, stored, tied=tied)
        for dtype in HELD_DTYPES
    }


def memory_bill(
    c: PaliGemmaConfig,
    dtype: str,
    tokens: int,
    rows: int = 1,
    stored: Stores = lambda _: Stored("BF16"),
    *,
    tied: bool | None = None,
) -> Bill:
    """Work out what one dtype takes; arguments as `memory_bills`."""
    take = _Weighing(dtype, stored)
    paligemma_weights(take, c, tied=c.text.tied if tied is None else tied)
    return Bill(
        weights=take.own + take.mapped,
        mapped=take.mapped,
        cache=cache_bytes(c, tokens, dtype, rows),
        activations=activation_bytes(c, tokens, dtype, rows),
        load_own=take.load_own,
        load_peak=take.load_peak,
    )


class _Weighing:
    """A take that reads nothing and follows what loading would hold, and when."""

    def __init__(self, dtype: str, stored: Stores) -> None:
        self.dtype, self.stored = dtype, stored
        self.own = self.mapped = self.load_own = self.load_peak = 0

    def matrix(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Weigh a matrix."""
        return self._weigh(name, shape, self.dtype)

    def vector(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Weigh a small tensor."""
        return self._weigh(name, shape, _arithmetic(self.dtype))

    def _weigh(self, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """Add one tensor, and the peak at it."""
        stored, numbers = self.stored(name), math.prod(shape)
        held = numbers * HELD_BYTES[dtype] + SCALE_BYTES.get(dtype, 0) * shape[0]
        pages = numbers * STORED_BYTES[stored.dtype] if stored.mapped else 0
        passing = 0
        if stored.mapped and not stored.changed and PLAIN_NAMES[stored.dtype] == dtype:
            self.mapped += held
            pages = 0  # counted among what is held
        else:
            self.own += held
            passing = _passing(shape, dtype, stored)
        self.load_own = max(self.load_own, self.own + passing)
        self.load_peak = max(self.load_peak, self.own + self.mapped + passing + pages)
        return np.empty(0)


def _passing(shape: tuple[int, ...], dtype: str, stored: Stored) -> int:
    """Count the bytes that are there only while a tensor becomes what is held."""
    numbers, number = math.prod(shape), HELD_BYTES[_arithmetic(dtype)]
    converting = CONVERTING_IN_PLACE.get(dtype, CONVERTING)
    passing = converting * min(numbers, CONVERTED * threads())
    if not stored.mapped:
        passing += numbers * STORED_BYTES[stored.dtype]
    if dtype == "float64" and stored.dtype != "F32":  # by way of float32
        passing += numbers * SINGLE
    if stored.changed:
        whole = 0 if HELD_BYTES[dtype] == number else numbers
        block = min(numbers, ROWS * (numbers // shape[0]))
        passing += (whole + MERGING * block) * number
    return passing


def _arithmetic(dtype: str) -> str:
    """Say what is worked in where matrices are held so."""
    return "float64" if dtype == "float64" else "float32"


def cache_bytes(c: PaliGemmaConfig, tokens: int, dtype: str, rows: int = 1) -> int:
    """Count the bytes of keys and values of so many positions in so many rows."""
    numbers = 2 * c.text.depth * c.text.kv_heads * c.text.head_dim
    return numbers * tokens * rows * HELD_BYTES[_arithmetic(dtype)]


def logits_bytes(c: PaliGemmaConfig, tokens: int, dtype: str, rows: int = 1) -> int:
    """Count the bytes of the logits of every position, and of their bending."""
    arrays = 1 if c.text.logit_cap is None else 1 + LOGITS
    numbers = rows * tokens * c.text.vocab_size
    return arrays * numbers * HELD_BYTES[_arithmetic(dtype)]


def activation_bytes(c: PaliGemmaConfig, tokens: int, dtype: str, rows: int = 1) -> int:
    """Count the bytes alive at the widest place, weights and cache left out.

    That is where probabilities are made of scores, (N, T, T), or where the MLP bends
    its hidden layer, (T, F), of either tower; around it a few arrays as wide as the
    residual stream, and the picture. In a narrow model it is where a token is drawn.
    The whole answer is taken for prefix here: it is the longest that can be asked.
    """
    number = HELD_BYTES[_arithmetic(dtype)]
    once = c.text.vocab_size * DRAWING * DOUBLE
    if number == SINGLE:  # a tile for each thread
        once += min(TILE_NUMBERS * threads(), _largest_matrix(c)) * SINGLE
    return once + rows * number * _widest(c, tokens)


def _largest_matrix(c: PaliGemmaConfig) -> int:
    """Count the numbers of the largest matrix, of which tiles are made."""
    text, eye = c.text, c.vision
    rows = max(text.vocab_size, text.mlp_width, text.heads * text.head_dim)
    return max(rows * text.width, max(eye.mlp_width, eye.width) * eye.width)


def _widest(c: PaliGemmaConfig, tokens: int) -> int:
    """Count the numbers alive for one row."""
    P = c.vision.patches
    eye = max(SCORES * c.vision.heads * P**2, HIDDEN * P * c.vision.mlp_width)
    eye += STREAMS * P * c.vision.width
    width = max(c.text.width, c.text.heads * c.text.head_dim)
    scores = SCORES + (c.text.score_cap is not None)
    text = max(scores * c.text.heads * tokens**2, HIDDEN * tokens * c.text.mlp_width)
    text += STREAMS * tokens * width
    drawing = LOGITS * c.text.vocab_size
    picture = c.vision.channels * c.vision.image_size**2
    return max(eye, text, drawing) + PICTURES * picture


def rows_that_fit(c: PaliGemmaConfig, tokens: int, dtype: str, available: float) -> int:
    """Say how many rows can be read at once within so many bytes; at least one.

    Parameters
    ----------
    c : PaliGemmaConfig
    tokens : int
        Positions of a row.
    dtype : str
        As matrices are held, or as the arithmetic is.
    available : float
        Bytes for activations alone: what cache and weights take is taken off before.
    """
    one, two = (activation_bytes(c, tokens, dtype, rows) for rows in (1, 2))
    return max(1, 1 + math.floor((available - one) / (two - one)))
