"""Tensors in safetensors files: a list first, bytes later, and never a copy.

The `safetensors` library opens and validates every file (lengths, bounds, overlaps).
Its NumPy side does not know bfloat16, so the bytes come from our own memory map, at the
places the header gives.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from numpy_paligemma.checkpoints.fields import (
    read_json,
    shorten,
    without_repeats,
)
from numpy_paligemma.checkpoints.mistaken import what_is_wrong

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
# what else a folder may hold where weights were expected: named in the message
LOOKALIKES = ("*.safetensors*", "*.part", "*.incomplete", "*.bin", "*.gguf", "*.npz")
DTYPES = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32}
# what may lie in other files than checkpoints: traces hold ids and masks, too
OTHERS = {
    "F64": np.float64,
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "I16": np.int16,
    "I32": np.int32,
    "I64": np.int64,
}
PLAIN_NAMES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
LENGTH_BYTES = 8  # the header's length, a little-endian integer in front of it


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies: everything that is known before its bytes are read."""

    name: str
    dtype: str  # as safetensors spells it: "BF16", "F16", "F32", …
    shape: tuple[int, ...]
    path: Path
    start: int  # bytes from the beginning of the file
    stop: int

    def read(self) -> np.ndarray:
        """Map the bytes: an array of `shape`; bfloat16 as its uint16 bits."""
        dtype = np.dtype((DTYPES | OTHERS)[self.dtype])
        if not self.nbytes:  # nothing can be mapped
            return np.empty(self.shape, dtype)
        mapped = np.memmap(self.path, np.uint8, "r", self.start, (self.nbytes,))
        return mapped.view(np.ndarray).view(dtype).reshape(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.stop - self.start

    @property
    def mapped(self) -> bool:
        """Always: `read` gives the file's own pages."""
        return True


def list_tensors(folder: Path) -> list[StoredTensor]:
    """List every tensor of a checkpoint's `model.safetensors`, or of all its shards.

    Parameters
    ----------
    folder : Path
        With `model.safetensors`, or `model.safetensors.index.json` and its shards.

    Returns
    -------
    list of StoredTensor, without any of their bytes read

    Raises
    ------
    ValueError
        If there is no such file, one is damaged, or index and shards disagree.
    """
    single, index = folder / SINGLE, folder / INDEX
    has_single, has_index = (os.path.lexists(path) for path in (single, index))
    if has_single and has_index:
        msg = f"{folder}: {SINGLE} and {INDEX} are both there, and may hold different "
        raise ValueError(msg + "weights; take away the one that is not meant")
    if has_index:
        return _list_shards(folder, index)
    if has_single:
        return list_file(single)
    others = [path.name for kind in LOOKALIKES for path in sorted(folder.glob(kind))]
    msg = f"{folder}: expected {SINGLE} or {INDEX}, found {(others or ['neither'])[0]}"
    raise ValueError(msg + "; is the download complete? if not, download it again")


def list_file(path: Path) -> list[StoredTensor]:
    """List one file's tensors, in the order of their bytes."""
    try:
        with safe_open(path, framework="numpy"):
            pass  # the library has now checked lengths, bounds and overlaps
        with path.open("rb") as file:
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            text = file.read(length)
            header = json.loads(text, object_pairs_hook=without_repeats)
    except (SafetensorError, OSError, ValueError) as error:
        why = what_is_wrong(path, error)
        msg = f"{path}: expected a whole safetensors file, but {why}"
        raise ValueError(msg) from error
    header.pop("__metadata__", None)
    offset = LENGTH_BYTES + length
    return [
        StoredTensor(
            name,
            entry["dtype"],
            tuple(entry["shape"]),
            path,
            *(offset + place for place in entry["data_offsets"]),
        )
        for name, entry in header.items()
    ]


def read_metadata(path: Path) -> dict[str, str]:
    """Read what a file says of itself; nothing where it is no safetensors file."""
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError):
        return {}


def read_index(index: Path) -> dict[str, str]:
    """Read which tensor lies in which shard; ValueError if the file does not say it."""
    shard_of = read_json(index).get("weight_map")
    if not isinstance(shard_of, dict) or not shard_of:
        msg = f"{index}: expected a weight_map of tensors and files; download it again"
        raise ValueError(msg)
    for shard in shard_of.values():
        if not _is_beside(shard):
            msg = f"{index}: weight_map: expected names of .safetensors files beside it"
            raise ValueError(msg + f", found {shorten(shard)}")
    return shard_of


def _list_shards(folder: Path, index: Path) -> list[StoredTensor]:
    """List all shards' tensors, and hold the index against what is in them."""
    shard_of = read_index(index)
    shards = sorted(set(shard_of.values()))
    gone = [name for name in shards if not os.path.lexists(folder / name)]
    if gone:
        msg = f"{folder}: the index names {', '.join(gone)}, not there; download again"
        raise ValueError(msg)
    tensors = [tensor for name in shards for tensor in list_file(folder / name)]
    strays = sorted(
        set(shard_of.items()) ^ {(tensor.name, tensor.path.name) for tensor in tensors}
    )
    if strays:
        name, shard = strays[0]
        msg = f"{index}: index and shards disagree on {len(strays)} tensors: {name} in "
        raise ValueError(msg + f"{shard}, to begin with; download again")
    return tensors


def _is_beside(shard: object) -> bool:
    """Tell a file's own name from a path that leads elsewhere."""
    return (
        isinstance(shard, str)
        and shard.endswith(".safetensors")
        and Path(shard).name == shard
    )
