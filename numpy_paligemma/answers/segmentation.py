"""Sixteen `<seg>` tokens into a mask: the decoder half of a VQ-VAE, 4 × 4 to 64 × 64.

Each token names a row of the codebook. The sixteen rows, laid out as a grid, are refined
by two residual blocks and then doubled in size four times. Maps here have their channels
last, (n, height, width, C), so that every convolution is one matrix product; kernels are
as PyTorch stores them.

References
----------
van den Oord, Vinyals and Kavukcuoglu (2017), https://arxiv.org/abs/1711.00937; Ning et
al. (2023), https://arxiv.org/abs/2301.02229; Beyer et al. (2024),
https://arxiv.org/abs/2407.07726, section 3; big_vision/evaluators/proj/paligemma/
transfers/segmentation.py, class Decoder.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from numpy_paligemma.model.layers import linear

GRID = 4  # tokens along a side
TOKENS = GRID * GRID  # to one mask
STRIDE = 2  # of a transposed convolution: what it multiplies height and width by


class Kernel(NamedTuple):
    """A convolution's weight and bias, as stored.

    Plain: (out, in, height, width) and (out,); transposed: (in, out, 4, 4) and (out,).
    """

    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True, slots=True)
class ResidualWeights:
    """One residual block's kernels."""

    first: Kernel  # (C, C, 3, 3), (C,)
    second: Kernel  # (C, C, 3, 3), (C,)
    third: Kernel  # (C, C, 1, 1), (C,)


@dataclass(frozen=True, slots=True)
class MaskDecoderWeights:
    """The codebook and the decoder; sizes as published."""

    codebook: np.ndarray  # (128, 512), one row a token
    entry: Kernel  # (128, 512, 1, 1), (128,)
    blocks: tuple[ResidualWeights, ...]  # 2, of 128 channels
    upsamplings: tuple[Kernel, ...]  # transposed, 128 to 128, 64, 32 and 16 channels
    head: Kernel  # (1, 16, 1, 1), (1,)


def decode_masks(codes: np.ndarray, w: MaskDecoderWeights) -> np.ndarray:
    """Turn the tokens of masks into the masks.

    Parameters
    ----------
    codes : int array, (n, 16)
        The numbers of the `<seg>` tokens, 0 … 127: rows of the grid, top to bottom.
    w : MaskDecoderWeights

    Returns
    -------
    float array, (n, 64, 64), of the weights' dtype
        Inside the object where above 0; trained towards -1 and 1, and not clipped.

    Raises
    ------
    ValueError
        If there are not sixteen whole numbers to a mask, or one is not in the codebook.
    """
    check_codes(codes, len(w.codebook))
    n = len(codes)
    x = w.codebook[codes].reshape(n, GRID, GRID, w.codebook.shape[1])  # (n, 4, 4, 512)
    x = relu(conv(x, *w.entry))  # (n, 4, 4, 128)
    for block in w.blocks:
        x = residual_block(x, block)
    for kernel in w.upsamplings:
        x = relu(transposed_conv(x, *kernel))  # (n, 8, 8, 128) … (n, 64, 64, 16)
    return conv(x, *w.head)[..., 0]


def residual_block(x: np.ndarray, w: ResidualWeights) -> np.ndarray:
    """Add what three convolutions see: (n, height, width, C) -> same, no ReLU after."""
    y = relu(conv(x, *w.first))
    y = relu(conv(y, *w.second))
    return x + conv(y, *w.third)


def conv(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Slide a kernel over a map that keeps its size.

        out[y, x, o] = Σ in[y + i - p, x + j - p, c] · weight[o, c, i, j] + bias[o]

    with p = (k - 1)/2 for a kernel of k × k, and zeros around the map: what PyTorch and
    Flax call a convolution, and signal processing a cross-correlation.

    Parameters
    ----------
    x : float array, (n, height, width, C)
    weight : float array, (O, C, k, k), k odd
    bias : float array, (O,)

    Returns
    -------
    float array, (n, height, width, O)
    """
    O, C, k, _ = weight.shape
    p = (k - 1) // 2
    padded = np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
    seen = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(1, 2))
    columns = seen.reshape(
        *x.shape[:3], C * k * k
    )  # in the order of weight's last three
    return linear(columns, weight.reshape(O, C * k * k), bias)


def transposed_conv(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Double a map: every cell lays its kernel down, two cells on from its neighbour's.

        out[2y + i - 1, 2x + j - 1, o] += in[y, x, c] · weight[c, o, i, j]

    for i, j in 0 … 3, what falls outside dropped, then the bias. In PyTorch's words
    kernel 4, stride 2, padding 1; in Flax's padding 2 and `transpose_kernel=True`.

    Parameters
    ----------
    x : float array, (n, height, width, C)
    weight : float array, (C, O, 4, 4)
    bias : float array, (O,)

    Returns
    -------
    float array, (n, 2·height, 2·width, O)
    """
    n, H, W, _ = x.shape
    _, O, k, _ = weight.shape
    height, width = STRIDE * H, STRIDE * W
    taps = np.ascontiguousarray(weight.transpose(2, 3, 0, 1))  # (4, 4, C, O), for BLAS
    out = np.zeros((n, height + 2, width + 2, O), x.dtype)  # an edge for what falls out
    for i in range(k):
        for j in range(k):
            out[:, i : i + height : STRIDE, j : j + width : STRIDE] += x @ taps[i, j]
    return out[:, 1:-1, 1:-1] + bias


def relu(x: np.ndarray) -> np.ndarray:
    """Let positive numbers pass alone: max(x, 0)."""
    return np.maximum(x, 0)


def check_codes(codes: np.ndarray, rows: int) -> None:
    """Refuse what NumPy would read as some other row, or not as rows at all."""
    if codes.ndim != 2 or codes.shape[1] != TOKENS or codes.dtype.kind not in "iu":
        msg = f"codes: expected whole numbers (n, {TOKENS}), came {codes.dtype} "
        raise ValueError(msg + str(codes.shape))
    strange = (codes < 0) | (codes >= rows)
    if strange.any():
        msg = f"codes: expected 0 to {rows - 1}, came {codes[strange][0]}"
        raise ValueError(msg)
