"""Which weights a checkpoint holds, as a hash that is quick to make.

Hashing 6 GB takes longer than a forward pass. So of every tensor some pages are taken,
spread from its first byte to its last: enough to tell any two checkpoints that somebody
trained or converted apart, and no proof against one who means to deceive.
"""

import hashlib
import json
import zipfile
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import numpy as np

from numpy_paligemma.checkpoints.big_vision.archive import SUFFIX
from numpy_paligemma.checkpoints.lora import adapter as lora_adapter
from numpy_paligemma.checkpoints.lora import config as lora_config
from numpy_paligemma.checkpoints.names import canonical_name
from numpy_paligemma.checkpoints.safetensors import StoredTensor, list_tensors
from numpy_paligemma.checkpoints.typed import typed_path

CONFIG = "config.json"
PAGES = 8  # of each tensor, its first and last among them
PAGE = 4096  # bytes


def weights_sha256(place: Path, adapter: str | PathLike[str] | None = None) -> str:
    """Hash what the weights are made of: 64 hexadecimal digits.

    Of a folder, the published name, dtype, shape and eight pages of every tensor, in
    the order of the names: so it does not matter how the tensors are spread over files,
    or which release's names they have. Of an `.npz`, every array's name, size and
    CRC-32, as the archive lists them. An adapter's two files are hashed whole.

    Parameters
    ----------
    place : Path
        A checkpoint's folder, or big_vision's `.npz`.
    adapter : str or path, optional
        A LoRA adapter's folder, if it was merged in.
    """
    digest = hashlib.sha256()
    parts = _members(place) if place.suffix == SUFFIX else _tensors(place)
    for about, data in parts:
        digest.update(json.dumps(about).encode() + data)
    if adapter is not None:
        for name in (lora_config.FILE, lora_adapter.FILE):
            digest.update((typed_path(adapter) / name).read_bytes())
    return digest.hexdigest()


def config_sha256(place: Path) -> str:
    """Hash the bytes of a folder's `config.json`; of an `.npz`, which has none, ""."""
    if place.suffix == SUFFIX:
        return ""
    return hashlib.sha256((place / CONFIG).read_bytes()).hexdigest()


def _members(archive: Path) -> Iterator[tuple[object, bytes]]:
    """List a zip's members, by their names."""
    with zipfile.ZipFile(archive) as file:
        for member in sorted(file.infolist(), key=lambda member: member.filename):
            yield (member.filename, member.file_size, member.CRC), b""


def _tensors(folder: Path) -> Iterator[tuple[object, bytes]]:
    """List a folder's tensors and some pages of each, by their published names."""
    listed = [(canonical_name(tensor.name), tensor) for tensor in list_tensors(folder)]
    for name, tensor in sorted(listed, key=lambda pair: pair[0]):
        yield (name, tensor.dtype, tensor.shape), _pages(tensor)


def _pages(tensor: StoredTensor) -> bytes:
    """Read a tensor's first page, its last, and some between; all of a small one."""
    if tensor.nbytes <= PAGES * PAGE:
        starts, size = [tensor.start], tensor.nbytes
    else:
        spread = np.linspace(tensor.start, tensor.stop - PAGE, PAGES)
        starts, size = [int(start) for start in spread], PAGE
    with tensor.path.open("rb") as file:
        return b"".join(file.read(size) for start in starts if file.seek(start) >= 0)
