"""Tensors in safetensors files: a list first, bytes later, and never a copy.

The `safetensors` library opens and validates every file (lengths, bounds, overlaps).
Its NumPy side does not know bfloat16, so the bytes come from our own memory map, at the
places the header gives.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

DTYPES = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32}
PLAIN_NAMES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
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
        mapped = np.memmap(self.path, np.uint8, "r", self.start, (self.nbytes,))
        return mapped.view(np.ndarray).view(DTYPES[self.dtype]).reshape(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.stop - self.start


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
    index = folder / INDEX
    if index.is_file():
        return _list_shards(folder, index)
    single = folder / SINGLE
    if not single.is_file():
        msg = (
            f"{folder}: expected model.safetensors or model.safetensors.index.json, "
            f"found neither; is the download complete?"
        )
        raise ValueError(msg)
    return list_file(single)


def list_file(path: Path) -> list[StoredTensor]:
    """List one file's tensors, in the order of their bytes."""
    try:
        with safe_open(path, framework="numpy"):
            pass  # the library has now checked lengths, bounds and overlaps
        with path.open("rb") as file:
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            header = json.loads(file.read(length))
    except (SafetensorError, OSError, ValueError) as error:
        msg = (
            f"{path}: expected a whole safetensors file, but {error}; download it again"
        )
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


def read_index(index: Path) -> dict[str, str]:
    """Read which shard each tensor is in; ValueError in one line where it is damaged."""
    try:
        shard_of: dict[str, str] = json.loads(index.read_bytes())["weight_map"]
        for name in shard_of.values():
            Path(name)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        msg = f"{index}: expected JSON with a weight_map; download it again"
        raise ValueError(msg) from error
    return shard_of


def _list_shards(folder: Path, index: Path) -> list[StoredTensor]:
    """List all shards' tensors, and hold the index against what is in them."""
    shard_of = read_index(index)
    shards = sorted({Path(name).name for name in shard_of.values()})
    gone = [name for name in shards if not (folder / name).is_file()]
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
