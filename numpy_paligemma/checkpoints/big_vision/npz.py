"""Arrays in an npz file: a list first, bytes later.

An npz is a zip of npy files. What lies in it as it is (`np.savez`) is memory-mapped at
its place; what is compressed (`np.savez_compressed`) has to be read whole.
"""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

# a zip member: 30 bytes, of which two say how long the name and the extra field are
LOCAL_HEADER = 30
BROKEN = (
    *(zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError),
    *(RuntimeError, OverflowError),  # encrypted, or packed in a way Python lacks
)


@dataclass(frozen=True, slots=True)
class StoredArray:
    """Where an array lies: everything that is known before its bytes are read."""

    key: str
    dtype: np.dtype
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    path: Path
    start: int | None  # bytes from the beginning of the file; None if compressed

    def read(self) -> np.ndarray:
        """Map the array, or decompress it.

        Raises
        ------
        ValueError
            If the compressed bytes are damaged.
        """
        if self.start is not None:
            mapped = np.memmap(self.path, np.uint8, "r", self.start, (self.nbytes,))
            flat = mapped.view(np.ndarray).view(self.dtype)
            return flat.reshape(self.shape, order=self.order)
        try:
            with zipfile.ZipFile(self.path) as file, file.open(self.key + ".npy") as f:
                return np.lib.format.read_array(f, allow_pickle=False)
        except BROKEN as error:
            raise ValueError(_broken(self.path, self.key, error)) from error

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize


def list_arrays(path: Path) -> list[StoredArray]:
    """List every array of an npz file, none of their bytes read.

    Raises
    ------
    ValueError
        If the file is no npz, or damaged; in one line.
    """
    at = "the file"
    try:
        with zipfile.ZipFile(path) as file, path.open("rb") as raw:
            listed = []
            for member in file.infolist():
                at = member.filename
                place = _place(raw.seek(member.header_offset), raw.read(LOCAL_HEADER))
                listed.append(_listed(file, member, path, place))
    except BROKEN as error:
        raise ValueError(_broken(path, at, error)) from error
    return listed


def _place(start: int, header: bytes) -> int:
    """Find a member's first byte, behind its name and extra field."""
    name, extra = np.frombuffer(header, "<u2", 2, LOCAL_HEADER - 4).tolist()
    return int(start + LOCAL_HEADER + name + extra)


def _listed(
    file: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, place: int
) -> StoredArray:
    """Read one array's npy header, and hold it against the member's size."""
    with file.open(member) as f:
        version = np.lib.format.read_magic(f)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in read:
            msg = f"its npy version {version} is none of {', '.join(map(str, read))}"
            raise ValueError(msg)
        shape, fortran, dtype = read[version](f)
        before = f.tell()
    start = place + before if member.compress_type == zipfile.ZIP_STORED else None
    key = member.filename.removesuffix(".npy")
    array = StoredArray(key, dtype, shape, "F" if fortran else "C", path, start)
    if array.nbytes != member.file_size - before:
        msg = f"{array.nbytes} bytes of {dtype} expected, {member.file_size - before} there"
        raise ValueError(msg)
    return array


def _broken(path: Path, at: str, error: Exception) -> str:
    """Word what a damaged file is met with."""
    said = " ".join(str(error).split()) or type(error).__name__
    return f"{path}: expected a whole npz file, but {at}: {said}; download it again"
