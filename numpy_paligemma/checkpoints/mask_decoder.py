"""The mask decoder's `.npz`: found by name or path, every array of it accounted for."""

import logging
import re
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from numpy_paligemma.answers.segmentation import (
    Kernel,
    MaskDecoderWeights,
    ResidualWeights,
)
from numpy_paligemma.arrays.formats import widen_bfloat16
from numpy_paligemma.arrays.hold import HELD_DTYPES
from numpy_paligemma.checkpoints.faults import some, told
from numpy_paligemma.checkpoints.hub import hub_file
from numpy_paligemma.checkpoints.typed import typed_path

log = logging.getLogger(__name__)

PUBLISHED = "vae-oid"  # PaliGemma's own decoder; it learnt from Open Images
FILE = f"{PUBLISHED}.npz"
SPACE = "big-vision/paligemma-hf"  # on the hub
WAYS_TO_IT = (
    f"give --mask-decoder FILE, or --mask-decoder {PUBLISHED} to download the published "
    f"one (gs://big_vision/paligemma/{FILE}, a copy in the hub's Space {SPACE})"
)
# the other half of the VQ-VAE, and running averages that only its training needs
LEFT_OUT = re.compile(r"encoder\.|_vq_vae\._ema_")
BFLOAT16 = np.dtype("V2")  # NumPy has no name for it, and stores two bytes a number

Shape = tuple[int, ...]


def find_mask_decoder(wanted: str | None, folder: Path) -> Path:
    """Find the mask decoder's file: its path.

    Parameters
    ----------
    wanted : str, optional
        A path, or "vae-oid": the published one, from the hub. None is the one that lies
        in `folder`.
    folder : Path
        The checkpoint's, or its `.npz` that lies beside.

    Raises
    ------
    OSError
        If there is no such file, or it cannot be downloaded.
    """
    if wanted == PUBLISHED:
        return hub_file(SPACE, FILE, repo_type="space")
    path = (folder.parent if folder.is_file() else folder) / FILE
    if wanted is not None:
        path = typed_path(wanted)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        msg = f"{path}: expected a mask decoder, found {found}; {WAYS_TO_IT}"
        raise FileNotFoundError(msg)
    return path


def load_mask_decoder(path: Path, dtype: str = "float32") -> MaskDecoderWeights:
    """Load the mask decoder.

    Parameters
    ----------
    path : Path
        An `.npz` with the names of big_vision's `vae-oid.npz`, in any floating dtype.
    dtype : {"float32", "float64"}
        Of the arithmetic. The 16-bit dtypes that a model may be held in mean float32.

    Returns
    -------
    MaskDecoderWeights

    Raises
    ------
    ValueError
        If the file is damaged; or if anything is missing, unexpected, of another shape
        or dtype, or not finite: all of it in one message.
    """
    if dtype not in HELD_DTYPES:
        msg = f"dtype: expected one of {', '.join(HELD_DTYPES)}, found {dtype!r}"
        raise ValueError(msg)
    wide = np.dtype(np.float64 if dtype == "float64" else np.float32)
    with _open(path) as archive:
        take = _Take(path, archive, wide)
        weights = mask_decoder_weights(take)
    take.balance()
    return weights


def mask_decoder_weights(take: "_Take") -> MaskDecoderWeights:
    """Take the codebook and the decoder: which published array is which weight.

    The numbers that are left out are the activations' places in the original's list.
    """
    return MaskDecoderWeights(
        codebook=take.array("_vq_vae._embedding", (128, 512)),
        entry=take.kernel("decoder.0", (128, 512, 1, 1)),
        blocks=tuple(
            ResidualWeights(
                first=take.kernel(f"decoder.{i}.net.0", (128, 128, 3, 3)),
                second=take.kernel(f"decoder.{i}.net.2", (128, 128, 3, 3)),
                third=take.kernel(f"decoder.{i}.net.4", (128, 128, 1, 1)),
            )
            for i in (2, 3)
        ),
        upsamplings=(  # transposed: (in, out, 4, 4)
            take.kernel("decoder.4", (128, 128, 4, 4), out=128),
            take.kernel("decoder.6", (128, 64, 4, 4), out=64),
            take.kernel("decoder.8", (64, 32, 4, 4), out=32),
            take.kernel("decoder.10", (32, 16, 4, 4), out=16),
        ),
        head=take.kernel("decoder.12", (1, 16, 1, 1)),
    )


class _Take:
    """Gives arrays by their published names, and notes what does not agree."""

    def __init__(self, path: Path, archive: NpzFile, wide: np.dtype) -> None:
        self.path, self.archive, self.wide = path, archive, wide
        self.missing: list[str] = []
        self.misshapen: list[str] = []
        self.strange: list[str] = []
        self.not_finite: list[str] = []
        self.untaken = set(archive.files)

    def kernel(self, name: str, shape: Shape, out: int | None = None) -> Kernel:
        """Take a convolution's weight and bias; `out` where it is not the first axis."""
        weight = self.array(f"{name}.weight", shape)
        return Kernel(weight, self.array(f"{name}.bias", (out or shape[0],)))

    def array(self, name: str, shape: Shape) -> np.ndarray:
        """Take an array, in the dtype of the arithmetic; an empty one if it is wrong."""
        if name not in self.archive.files:
            self.missing.append(name)
            return np.empty(0)
        self.untaken.discard(name)
        stored = _read(self.path, self.archive, name)
        if stored.shape != shape:
            self.misshapen.append(f"{name} expected {shape}, found {stored.shape}")
        if stored.dtype == BFLOAT16:
            stored = widen_bfloat16(stored.view(np.uint16))
        elif stored.dtype.kind != "f":
            self.strange.append(f"{name} is {stored.dtype}")
            return np.empty(0)
        with np.errstate(over="ignore"):  # what float32 cannot hold is found just below
            array = stored.astype(self.wide)
        if not np.isfinite(array).all():
            self.not_finite.append(name)
        return array

    def balance(self) -> None:
        """Raise if the file and the decoder do not hold the same arrays."""
        left_out = {name for name in self.untaken if LEFT_OUT.match(name)}
        faults = {
            "missing": self.missing,
            "unexpected": sorted(self.untaken - left_out),
            "of another shape": self.misshapen,
            "of another dtype than a floating one": self.strange,
            f"with numbers that are not finite in {self.wide}": self.not_finite,
        }
        if any(faults.values()):
            msg = f"{self.path}: the arrays are not those of a mask decoder: "
            raise ValueError(msg + told(faults))
        if left_out:
            log.info("left out: the mask encoder (%d arrays)", len(left_out))


def _open(path: Path) -> NpzFile:
    """Open an `.npz`, and refuse one that has a name twice."""
    try:
        archive = NpzFile(path, allow_pickle=False)  # type: ignore[arg-type]  # paths too
    except Exception as error:  # NumPy's, the zip library's or the system's own
        raise _damaged(path, "an .npz file", error) from error
    if twice := [name for name, n in Counter(archive.files).items() if n > 1]:
        archive.close()
        msg = f"{path}: {some(twice)} there more than once"
        raise ValueError(msg)
    return archive


def _read(path: Path, archive: NpzFile, name: str) -> np.ndarray:
    """Read one array; its bytes are checked against the sum that the file gives."""
    try:
        return np.asarray(archive[name])
    except Exception as error:  # NumPy's, the zip library's, zlib's: too many to list
        raise _damaged(path, f"{name} to be a whole array of numbers", error) from error


def _damaged(path: Path, expected: str, error: Exception) -> ValueError:
    """Say in one line what another library said in one or more."""
    said = " ".join(str(error).split()) or type(error).__name__
    return ValueError(f"{path}: expected {expected}, but {said}; get it again")
