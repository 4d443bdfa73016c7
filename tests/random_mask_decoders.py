"""Random mask decoders: arrays by their published names, and the weights they become."""

import math
from dataclasses import dataclass

import numpy as np

from numpy_paligemma.answers.segmentation import (
    Kernel,
    MaskDecoderWeights,
    ResidualWeights,
)

CODEBOOK = "_vq_vae._embedding"
BLOCKS = (2, 3)  # places in the published list: the residual blocks,
UPSAMPLINGS = (4, 6, 8, 10)  # the transposed convolutions
HEAD = 12

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Sizes:
    """The codebook's rows and their length, and the channels of the maps."""

    name: str
    rows: int
    row: int
    width: int
    upsampled: tuple[int, int, int, int]


# the first transposed kernel is square, as it is in the published one
TINY = Sizes("tiny", 11, 9, 6, (6, 5, 4, 3))
PUBLISHED = Sizes("published", 128, 512, 128, (128, 64, 32, 16))


def shapes(s: Sizes) -> dict[str, tuple[int, ...]]:
    """List every array of the file and its shape."""
    kernels: dict[str, tuple[int, ...]] = {"decoder.0": (s.width, s.row, 1, 1)}
    for block in BLOCKS:
        for place, k in ((0, 3), (2, 3), (4, 1)):
            kernels[f"decoder.{block}.net.{place}"] = (s.width, s.width, k, k)
    ins = (s.width, *s.upsampled)
    for place, c, o in zip(UPSAMPLINGS, ins, s.upsampled, strict=False):
        kernels[f"decoder.{place}"] = (c, o, 4, 4)  # transposed: in, then out
    kernels[f"decoder.{HEAD}"] = (1, s.upsampled[-1], 1, 1)
    found: dict[str, tuple[int, ...]] = {CODEBOOK: (s.rows, s.row)}
    for name, shape in kernels.items():
        transposed = int(name.removeprefix("decoder.").split(".")[0]) in UPSAMPLINGS
        out = shape[1] if transposed else shape[0]
        found |= {f"{name}.weight": shape, f"{name}.bias": (out,)}
    return found


def random_arrays(s: Sizes, seed: int = 0) -> Arrays:
    """Draw every array, biases too, so that maps neither fade nor grow: float32."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, shape in shapes(s).items():
        fan_in = math.prod(shape[1:]) if len(shape) == 4 else 2
        drawn = rng.normal(size=shape) * math.sqrt(2 / fan_in)
        arrays[name] = drawn.astype(np.float32)
    return arrays


def random_codes(s: Sizes, n: int = 3) -> np.ndarray:
    """Draw the tokens of n masks: (n, 16)."""
    return np.random.default_rng(n).integers(0, s.rows, (n, 16))


def weights_of(arrays: Arrays, dtype: type = np.float64) -> MaskDecoderWeights:
    """Lay arrays of any sizes out as weights."""

    def kernel(name: str) -> Kernel:
        ends = ("weight", "bias")
        return Kernel(*(arrays[f"{name}.{end}"].astype(dtype) for end in ends))

    return MaskDecoderWeights(
        codebook=arrays[CODEBOOK].astype(dtype),
        entry=kernel("decoder.0"),
        blocks=tuple(
            ResidualWeights(*(kernel(f"decoder.{block}.net.{i}") for i in (0, 2, 4)))
            for block in BLOCKS
        ),
        upsamplings=tuple(kernel(f"decoder.{place}") for place in UPSAMPLINGS),
        head=kernel(f"decoder.{HEAD}"),
    )
