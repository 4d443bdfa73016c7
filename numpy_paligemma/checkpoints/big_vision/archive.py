"""Stacked arrays of a big_vision checkpoint, taken apart into tensors.

Every array is accounted for before one is read. bfloat16 is two bytes that NumPy has no
name for.
"""

import functools
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from numpy_paligemma.checkpoints.big_vision.names import (
    ATTENTION,
    ATTENTION_IN_ONE,
    COUNTED,
    GEMMA,
    GEMMA_2,
    GEMMA_2_ONLY,
    IMAGE,
    LANGUAGE,
    LAYERS,
    Line,
)
from numpy_paligemma.checkpoints.big_vision.npz import StoredArray, list_arrays
from numpy_paligemma.checkpoints.faults import told

log = logging.getLogger(__name__)

SUFFIX = ".npz"
# NumPy has no bfloat16: its two bytes come back as bytes
DTYPES = {"|V2": "BF16", "<V2": "BF16", "<f2": "F16", "<f4": "F32"}
OPTIMISER = "opt/"  # of a training run: left out

Sizes = Mapping[str, int]  # by letter


@dataclass(frozen=True, slots=True)
class Part:
    """One published tensor inside a stacked array; as `StoredTensor`."""

    name: str
    dtype: str  # as safetensors spells it
    shape: tuple[int, ...]
    array: StoredArray
    index: tuple[int | slice, ...]
    axes: tuple[int, ...]
    whole: Callable[[StoredArray], np.ndarray]

    @property
    def path(self) -> Path:
        """The file that it lies in."""
        return self.array.path

    @property
    def mapped(self) -> bool:
        """Whether `read` cuts it out of the file's own pages: nothing is to be moved."""
        start, order = self.array.start, tuple(range(len(self.axes)))
        aligned = start is not None and start % self.array.dtype.itemsize == 0
        return aligned and self.array.order == "C" and self.axes == order

    def read(self) -> np.ndarray:
        """Cut the tensor out: `shape`, its rows in one piece; bfloat16 as uint16 bits."""
        whole = self.whole(self.array)
        bits = whole.view(np.uint16) if self.dtype == "BF16" else whole
        part = bits[self.index].transpose(self.axes).reshape(self.shape)
        return np.require(part, requirements=["C_CONTIGUOUS", "ALIGNED"])


def archive_tensors(path: Path) -> dict[str, Part]:
    """List the tensors by published name; errors as `open_archive`."""
    sizes, lines, arrays = open_archive(path)
    # a compressed array is read once and not once a layer
    whole = functools.cache(StoredArray.read)
    parts = (
        part for line in lines for part in _parts(line, arrays[line.key], sizes, whole)
    )
    return {part.name: part for part in parts}


def open_archive(path: Path) -> tuple[Sizes, Sequence[Line], Mapping[str, StoredArray]]:
    """List the arrays, and the sizes that their shapes tell.

    Raises
    ------
    ValueError
        If the file is damaged, or the arrays are not those of a PaliGemma: all that is
        wrong in one line.
    """
    listed = [(a.key.removeprefix("params/"), a) for a in list_arrays(path)]
    counted, arrays = Counter(key for key, _ in listed), dict(listed)
    state = [key for key in arrays if key.startswith(OPTIMISER)]
    if state:
        log.info("left out: the optimiser's state (%d arrays)", len(state))
    attention = ATTENTION_IN_ONE if ATTENTION_IN_ONE[0].key in arrays else ATTENTION
    norms = GEMMA_2 if GEMMA_2_ONLY in arrays else GEMMA
    lines = [*IMAGE, *attention, *LANGUAGE, *norms]
    sizes, misshapen = _sizes(lines, arrays)
    wanted = {line.key for line in lines}
    faults = {
        "there more than once": [key for key, n in counted.items() if n > 1],
        "missing": sorted(wanted - arrays.keys()),
        "unexpected": sorted(arrays.keys() - wanted - set(state)),
        "of another shape": misshapen,
        "of another dtype than bfloat16, float16, float32": [
            f"{key} is {array.dtype}"
            for key, array in arrays.items()
            if key in wanted and array.dtype.str not in DTYPES
        ],
    }
    if any(faults.values()):
        msg = f"{path}: the arrays are not those of a big_vision PaliGemma: "
        raise ValueError(msg + told(faults))
    return sizes, lines, arrays


def _sizes(
    lines: Sequence[Line], arrays: Mapping[str, StoredArray]
) -> tuple[dict[str, int], list[str]]:
    """Give every letter the size it first has, and note where it has another."""
    sizes, misshapen = dict(COUNTED), []
    for line in lines:
        if line.key not in arrays:
            continue
        letters, shape = line.stored.split(), arrays[line.key].shape
        pairs = zip(letters, shape, strict=False)
        expected = tuple(sizes.setdefault(letter, size) for letter, size in pairs)
        if len(letters) != len(shape):
            misshapen.append(f"{line.key} expected {len(letters)} axes, found {shape}")
        elif expected != shape:
            misshapen.append(f"{line.key} expected {expected}, found {shape}")
    sizes.setdefault("K", sizes.get("H", 1))
    return sizes, misshapen


def _parts(
    line: Line,
    array: StoredArray,
    sizes: Sizes,
    whole: Callable[[StoredArray], np.ndarray],
) -> Iterator[Part]:
    """Take an array apart into the tensors of all layers."""
    letters = line.stored.split()
    rest = [letter for letter in letters if letter not in {*LAYERS, *COUNTED}]
    axes = tuple(rest.index(letter) for letter in line.published if letter != " ")
    shape = tuple(
        math.prod(sizes[letter] for letter in group) for group in line.published.split()
    )
    depth = math.prod(sizes[letter] for letter in letters if letter in LAYERS)
    for which, name in enumerate(line.names):
        for layer in range(depth):
            taken = dict.fromkeys(LAYERS, layer) | dict.fromkeys(COUNTED, which)
            index = tuple(taken.get(letter, slice(None)) for letter in letters)
            dtype = DTYPES[array.dtype.str]
            yield Part(name.format(layer), dtype, shape, array, index, axes, whole)
