"""Mistakes of mask decoders, each a wrong twin of one of our functions.

tests/test_segmentation.py puts each in the place of the right one and demands that the
golden masks are missed by a wide margin. As in tests/mistakes.py, a twin takes the
arguments of the function that it replaces, and its name says what is wrong.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from numpy_paligemma.answers.segmentation import (
    GRID,
    TOKENS,
    conv,
    decode_masks,
    relu,
    residual_block,
    transposed_conv,
)
from numpy_paligemma.model.layers import gelu

Twin = Callable[..., Any]


@dataclass(frozen=True)
class MaskMistake:
    """A wrong twin, and whom it replaces in `answers.segmentation`."""

    twin: Twin
    replaces: str
    origin: str  # where people made it, or the habit it comes from


MASK_MISTAKES: list[MaskMistake] = []


def mistake(replaces: str, origin: str) -> Callable[[Twin], Twin]:
    """Enter a wrong twin into the list."""

    def enter(twin: Twin) -> Twin:
        MASK_MISTAKES.append(MaskMistake(twin, replaces, origin))
        return twin

    return enter


# --- the tokens -----------------------------------------------------------------------


@mistake("decode_masks", "x and y exchanged")
def tokens_laid_out_column_by_column(codes, w):
    grid = codes.reshape(-1, GRID, GRID).swapaxes(1, 2)
    return decode_masks(grid.reshape(-1, TOKENS), w)


@mistake("decode_masks", "counting from one")
def tokens_one_row_late(codes, w):
    return decode_masks(codes, replace(w, codebook=np.roll(w.codebook, -1, axis=0)))


@mistake("decode_masks", "the public Spaces, which then cut at 0.5")
def mask_moved_to_nought_to_one(codes, w):
    return np.clip(decode_masks(codes, w) * 0.5 + 0.5, 0, 1)


# --- the convolutions -----------------------------------------------------------------


@mistake("conv", "signal processing")
def kernel_turned_round(x, weight, bias):
    return conv(x, weight[:, :, ::-1, ::-1], bias)


@mistake("conv", "x and y exchanged")
def kernel_transposed(x, weight, bias):
    return conv(x, weight.swapaxes(2, 3), bias)


@mistake("conv", "conversions to channels last")
def in_and_out_swapped_where_equal(x, weight, bias):
    return conv(x, square_swapped(weight), bias)


@mistake("conv", "padding that repeats")
def edge_repeated_and_not_nought(x, weight, bias):
    p = (weight.shape[2] - 1) // 2
    padded = np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)), "edge")
    wide = conv(padded, weight, bias)
    return wide[:, p : wide.shape[1] - p, p : wide.shape[2] - p]


@mistake("transposed_conv", "Flax without transpose_kernel")
def transposed_kernel_turned_round(x, weight, bias):
    return transposed_conv(x, weight[:, :, ::-1, ::-1], bias)


@mistake("transposed_conv", "x and y exchanged")
def transposed_kernel_transposed(x, weight, bias):
    return transposed_conv(x, weight.swapaxes(2, 3), bias)


@mistake("transposed_conv", "PyTorch's (in, out) taken for (out, in)")
def transposed_in_and_out_swapped_where_equal(x, weight, bias):
    return transposed_conv(x, square_swapped(weight), bias)


@mistake("transposed_conv", "padding cut from one side")
def transposed_one_cell_late(x, weight, bias):
    late = np.roll(transposed_conv(x, weight, 0 * bias), 1, axis=(1, 2))
    late[:, 0], late[:, :, 0] = 0, 0
    return late + bias


@mistake("transposed_conv", "loaders written for layers without one")
def transposed_bias_left_out(x, weight, bias):
    return transposed_conv(x, weight, 0 * bias)


# --- what joins them ------------------------------------------------------------------


@mistake("residual_block", "ResNet habits")
def relu_after_the_sum(x, w):
    return relu(residual_block(x, w))


@mistake("residual_block", "the VQ-VAE of 2017, whose blocks start with one")
def relu_before_the_block(x, w):
    return x + residual_block(relu(x), w) - relu(x)


@mistake("residual_block", "strict=False loaders")
def straight_line_left_out(x, w):
    return residual_block(x, w) - x


@mistake("relu", "activations have no weights, so no loader misses them")
def relu_left_out(x):
    return x


@mistake("relu", "decoders of GANs")
def leaky_relu(x):
    return np.where(x > 0, x, 0.01 * x)


@mistake("relu", "the rest of PaliGemma")
def gelu_for_relu(x):
    return gelu(x)


# --- what several of them need --------------------------------------------------------


def square_swapped(weight: np.ndarray) -> np.ndarray:
    """Swap in and out where no shape shows it."""
    square = weight.shape[0] == weight.shape[1]
    return weight.swapaxes(0, 1) if square else weight
