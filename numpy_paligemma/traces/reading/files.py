"""A trace's file, safetensors or npz: its names first, its arrays one at a time."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from numpy_paligemma.arrays.formats import round_to_bfloat16, widen_bfloat16
from numpy_paligemma.checkpoints.big_vision.npz import list_arrays
from numpy_paligemma.checkpoints.safetensors import (
    DTYPES,
    OTHERS,
    list_file,
    read_metadata,
)
from numpy_paligemma.checkpoints.typed import typed_path
from numpy_paligemma.traces.reading.names import Name, is_gemma_2, read_name, sort_key

HALF_UNIT = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "float16": 2.0**-12,
    "bfloat16": 2.0**-9,
}
LOOKED_AT = 24  # arrays that tell in what a side was computed
NUMBERS = 4096  # of each
NPY = b"\x93NUMPY"
MOSTLY = 0.8  # of those arrays


@dataclass(frozen=True, slots=True)
class Held:
    """An array of a file, not yet read."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    fetch: Callable[[], np.ndarray]  # bfloat16 as its uint16 bits

    def read(self) -> np.ndarray:
        """Read it: floats as float64, masks as bool, ids as int64."""
        x = self.fetch()
        if self.dtype == "BF16":
            return widen_bfloat16(np.ascontiguousarray(x)).astype(np.float64)
        kinds = {"f": np.float64, "b": np.bool_, "i": np.int64, "u": np.int64}
        return x.astype(kinds[x.dtype.kind])


@dataclass(frozen=True)
class Trace:
    """One side of a comparison."""

    path: Path
    metadata: dict[str, str]
    held: dict[str, Held]  # by the path of its tap, in the model's order
    names: dict[str, Name]
    repeated: tuple[str, ...] = ()  # names of places that another name has taken
    grain: str = field(default="float64")  # the coarsest dtype that it went through

    def __contains__(self, path: str) -> bool:
        return path in self.held

    def read(self, path: str) -> np.ndarray:
        """Read one array."""
        return self.held[path].read()

    def says(self, key: str) -> str:
        """Take what the file says of itself; nothing where it does not."""
        return self.metadata.get(key, "")


def names_in(path: Path) -> list[str]:
    """List the names of a trace's arrays."""
    return [held.name for held in _listed(path)]


def open_trace(path: Path, *, gemma_2: bool) -> Trace:
    """Open a trace: every name read, no array but a few for their dtype.

    Raises
    ------
    ValueError
        In one line, where there is no such file, or it is no trace.
    """
    held: dict[str, Held] = {}
    names: dict[str, Name] = {}
    repeated = []
    listed = [(read_name(h.name, gemma_2=gemma_2), h) for h in _listed(path)]
    by_place = {id(h): i for i, (_, h) in enumerate(listed)}
    for name, h in sorted(listed, key=lambda nh: sort_key(nh[0], by_place[id(nh[1])])):
        if name.path in held and h.name != name.path:
            repeated.append(h.name)
            continue
        if name.path in held:
            repeated.append(held[name.path].name)
        held[name.path], names[name.path] = h, name
    metadata = read_metadata(path)
    grain = _coarsest(_grain(list(held.values())), metadata.get("arithmetic", ""))
    return Trace(path, metadata, held, names, tuple(repeated), grain)


def traces(a: str, b: str) -> tuple[Trace, Trace]:
    """Open both sides, their names read alike; ValueError in one line."""
    paths = [typed_path(text) for text in (a, b)]
    gemma_2 = is_gemma_2(name for path in paths for name in names_in(path))
    first, second = (open_trace(path, gemma_2=gemma_2) for path in paths)
    return first, second


def _listed(path: Path) -> list[Held]:
    """List what is in a file, whichever of the two kinds it is."""
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no such file"
        msg = f"{path}: {kind}; expected a trace, a .safetensors or .npz file"
        raise ValueError(msg)
    with path.open("rb") as file:
        start = file.read(len(NPY))
    if start == NPY:
        msg = (
            f"{path}: a .npy, which holds one array without its name; expected a trace"
        )
        raise ValueError(msg + ", a .safetensors or .npz file")
    npz = start.startswith(b"PK") or path.suffix == ".npz"
    try:
        held = _in_npz(path) if npz else _in_safetensors(path)
    except ValueError as error:  # nobody downloads a trace
        msg = str(error).replace("download it again", "write it again")
        raise ValueError(msg) from error
    if not held:
        msg = f"{path}: no array in it; expected a trace, as `trace` or hooks write it"
        raise ValueError(msg)
    return held


def _in_safetensors(path: Path) -> list[Held]:
    """List a safetensors file's tensors."""
    listed = list_file(path)
    known = DTYPES | OTHERS
    odd = next((t for t in listed if t.dtype not in known), None)
    if odd is not None:
        msg = f"{path}: {odd.name}: expected {', '.join(known)}, found {odd.dtype}; "
        raise ValueError(msg + "save it as float32")
    return [Held(t.name, t.dtype, t.shape, t.read) for t in listed]


def _in_npz(path: Path) -> list[Held]:
    """List an npz file's arrays; two-byte blanks are bfloat16, as ml_dtypes saves it."""
    held = []
    for array in list_arrays(path):
        dtype, fetch = array.dtype, array.read
        if dtype == np.dtype("V2"):
            held.append(Held(array.key, "BF16", array.shape, _bits(fetch)))
        elif dtype.kind in "fiub":
            held.append(Held(array.key, str(dtype), array.shape, fetch))
        else:
            msg = f"{path}: {array.key}: expected numbers, found {dtype}; leave it out"
            raise ValueError(msg)
    return held


def _bits(fetch: Callable[[], np.ndarray]) -> Callable[[], np.ndarray]:
    return lambda: fetch().view(np.uint16)


def _grain(held: list[Held]) -> str:
    """Tell in what a side was computed, or stored, by the numbers themselves.

    transformers' bfloat16 run may be saved as float32: then nearly every array holds
    bfloat16 numbers alone. One array of them among others is another matter.
    """
    floats = [h for h in held if h.dtype.lower().startswith(("f", "bf"))]
    picked = floats[:: max(1, len(floats) // LOOKED_AT)]
    votes = [grain for h in picked if (grain := _grain_of(h))]
    for coarse in ("bfloat16", "float16", "float32"):
        fitting = sum(HALF_UNIT[vote] >= HALF_UNIT[coarse] for vote in votes)
        if votes and fitting >= MOSTLY * len(votes):
            return coarse
    return "float64"


def _grain_of(held: Held) -> str:
    """Tell the coarsest dtype that holds an array's numbers; nothing of noughts."""
    x = held.read().reshape(-1)[:NUMBERS]
    x = x[np.isfinite(x) & (x != 0)]
    if not len(np.unique(x)) > 2:
        return ""
    single = x.astype(np.float32)
    if np.any(single != x):
        return "float64"
    if np.array_equal(widen_bfloat16(round_to_bfloat16(single)), single):
        return "bfloat16"
    with np.errstate(over="ignore", under="ignore"):
        half = np.array_equal(single.astype(np.float16), single)
    return "float16" if half else "float32"


def _coarsest(*grains: str) -> str:
    """Take the dtype with the fewest digits."""
    return max((g for g in grains if g in HALF_UNIT), key=lambda g: HALF_UNIT[g])


def metadata_list(trace: Trace, key: str) -> object:
    """Read a JSON value that the file says of itself; None where there is none."""
    try:
        return json.loads(trace.says(key))
    except ValueError:
        return None
