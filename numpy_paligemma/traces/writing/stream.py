"""A safetensors file that is written while its tensors come, and holds none of them.

The header, which stands in front, tells where every tensor lies, and is known last. So
room is left for it, and what it does not need is filled with spaces, which the format
allows (https://huggingface.co/docs/safetensors, "Format").
"""

import json
from collections.abc import Iterable, Mapping

import numpy as np

from numpy_paligemma.traces.writing.whole import WholeFile

DTYPES = {"float64": "F64", "float32": "F32", "int64": "I64", "bool": "BOOL"}
LENGTH_BYTES = 8  # the header's length, a little-endian integer in front of it
MOST_ROOM = 100_000_000  # bytes; the safetensors library refuses longer headers
WIDEST = 8  # bytes of the widest number; the tensors begin at a multiple of it
ENTRY = 200  # letters of a tensor in the header, its name aside, and some to spare


class TensorStream:
    """A safetensors file, written as its tensors come.

    Those of the main dtype go to the disk at once. Others are few and small, and kept
    to the end, wider ones for the front and narrower ones for the back: so every tensor
    lies at a multiple of its numbers' size, as torch wants it.

    Parameters
    ----------
    file : WholeFile
    main : str
        "float32" or "float64".
    names : the names of all tensors that may come
    integers : how many int64 numbers may come
    metadata : what the file says of itself; what changes later may not grow

    Raises
    ------
    ValueError, OSError
        One line: an unknown name, one that came before, or no room on the disk.
    """

    def __init__(
        self,
        file: WholeFile,
        main: str,
        names: Iterable[str],
        integers: int,
        metadata: Mapping[str, str],
    ) -> None:
        self.metadata = dict(metadata)
        self._file = file
        self._main = np.dtype(main)
        self._names = set(names)
        self._entries: dict[str, tuple[np.dtype, tuple[int, ...], int, int]] = {}
        self._kept: dict[str, np.ndarray] = {}
        room = sum(len(json.dumps(name)) + ENTRY for name in self._names)
        room += len(json.dumps(self.metadata)) + ENTRY + WIDEST * integers
        if room > MOST_ROOM:
            msg = f"{len(self._names)} tensors are more than a safetensors file can list; "
            raise ValueError(msg + "leave some out")
        self._begin = LENGTH_BYTES + -(-room // WIDEST) * WIDEST  # of the main tensors
        self._end = self._begin

    def add(self, name: str, x: np.ndarray) -> None:
        """Write a tensor, or keep it for the end."""
        if x.dtype.name not in DTYPES:
            msg = f"{name}: expected one of {', '.join(DTYPES)}, came {x.dtype}"
            raise ValueError(msg)
        if name not in self._names:
            msg = (
                f"{name}: not among the {len(self._names)} tensors that were announced"
            )
            raise ValueError(msg)
        if name in self._entries or name in self._kept:
            msg = f"{name}: came a second time"
            raise ValueError(msg)
        if x.dtype == self._main:
            self._append(name, x)
        else:
            self._kept[name] = x

    def finish(self) -> None:
        """Write what was kept, and the header."""
        for name in sorted(self._kept, key=lambda name: -self._kept[name].itemsize):
            x = self._kept[name]
            if x.itemsize < self._main.itemsize:
                self._append(name, x)
            else:
                self._begin -= x.nbytes
                self._write(name, x, self._begin)
        header = {"__metadata__": self.metadata} | {
            name: {
                "dtype": DTYPES[dtype.name],
                "shape": shape,
                "data_offsets": [start - self._begin, stop - self._begin],
            }
            for name, (dtype, shape, start, stop) in self._entries.items()
        }
        room = self._begin - LENGTH_BYTES
        text = json.dumps(header).encode().ljust(room)
        self._file.write(room.to_bytes(LENGTH_BYTES, "little") + text, 0)

    def _append(self, name: str, x: np.ndarray) -> None:
        """Write a tensor behind the others."""
        self._write(name, x, self._end)
        self._end += x.nbytes

    def _write(self, name: str, x: np.ndarray, start: int) -> None:
        """Write a tensor from byte `start` on, and note where it lies."""
        self._entries[name] = (x.dtype, x.shape, start, start + x.nbytes)
        whole = np.ascontiguousarray(x, x.dtype.newbyteorder("<"))
        self._file.write(whole.reshape(-1).view(np.uint8).data, start)
