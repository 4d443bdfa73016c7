"""The eye: patches against a sliding window, and one block in one dtype."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tolerances import ORACLE, relative_error

from numpy_paligemma.checkpoints.config import read_config
from numpy_paligemma.checkpoints.load import load_weights
from numpy_paligemma.model.config import PaliGemmaConfig
from numpy_paligemma.model.gemma import gemma_block
from numpy_paligemma.model.layers import linear
from numpy_paligemma.model.pipeline import PaliGemmaWeights
from numpy_paligemma.model.rope import rope_table
from numpy_paligemma.model.siglip import cut_patches, siglip_block, siglip_encoder
from numpy_paligemma.model.tap import recorder

Loaded = tuple[PaliGemmaConfig, PaliGemmaWeights]


def load(folder: Path, dtype: str) -> Loaded:
    c = read_config(folder)
    return c, load_weights(folder, c, dtype)


@pytest.mark.parametrize(("height", "width"), [(12, 12), (8, 16), (14, 11)])
def test_patch_embedding_is_a_strided_convolution(
    height: int, width: int, rng: np.random.Generator
) -> None:
    pixels, bias = rng.normal(size=(2, 3, height, width)), rng.normal(size=5)
    kernel = rng.normal(size=(5, 3, 4, 4))  # (D, channels, y, x), as published
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (4, 4), axis=(2, 3))
    there = windows[:, :, ::4, ::4]  # (B, channels, rows, columns, y, x)
    expected = np.einsum("bcijyx,dcyx->bijd", there, kernel).reshape(2, -1, 5) + bias
    found = linear(cut_patches(pixels, 4), kernel.reshape(5, -1), bias)
    assert relative_error(found, expected) < ORACLE


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
def test_patches_hold_every_pixel_once_row_by_row(
    rows: int, columns: int, patch: int
) -> None:
    shape = (2, 3, rows * patch, columns * patch)
    pixels = np.arange(np.prod(shape)).reshape(shape)
    patches = cut_patches(pixels, patch)
    assert sorted(patches.ravel()) == list(range(pixels.size))
    place = rows * columns - 1  # the last one is at the bottom right
    np.testing.assert_array_equal(
        patches[:, place], pixels[:, :, -patch:, -patch:].reshape(2, -1)
    )
    np.testing.assert_array_equal(
        patches[:, columns - 1], pixels[:, :, :patch, -patch:].reshape(2, -1)
    )


def test_patches_in_another_order_give_the_features_in_that_order(
    tiny_folder: Path, rng: np.random.Generator
) -> None:
    """Without positions the eye knows no order: it has no mask."""
    c, w = load(tiny_folder, "float64")
    x, order = rng.normal(size=(1, 9, 15)), rng.permutation(9)
    out = siglip_block(x, w.vision.blocks[0], c.vision)
    shuffled = siglip_block(x[:, order], w.vision.blocks[0], c.vision)
    assert relative_error(shuffled, out[:, order]) < ORACLE


def test_a_picture_is_seen_the_same_whatever_lies_beside_it(
    tiny_folder: Path, rng: np.random.Generator
) -> None:
    c, w = load(tiny_folder, "float64")
    pixels = rng.uniform(-1, 1, (3, 3, 14, 14))
    together = siglip_encoder(pixels, w.vision, c.vision)
    alone = siglip_encoder(pixels[1:2], w.vision, c.vision)
    assert together.shape == (3, 9, 15)
    assert relative_error(together[1:2], alone) < ORACLE


@pytest.mark.parametrize("held", ["float32", "bfloat16", "float16"])
def test_a_block_of_each_tower_stays_in_float32(
    tiny_folder: Path, held: str, rng: np.random.Generator
) -> None:
    c, w = load(tiny_folder, held)
    eye, seen_by_eye = recorder()
    x = rng.normal(size=(1, 9, 15)).astype(np.float32)
    siglip_block(x, w.vision.blocks[0], c.vision, tap=eye)

    reader, seen_by_reader = recorder()
    x = rng.normal(size=(1, 4, 10)).astype(np.float32)
    rope = rope_table(np.arange(4)[None], c.text.head_dim, c.text.rope_base, like=x)
    mask = np.tri(4, dtype=bool)
    gemma_block(x, w.decoder.blocks[0], rope, mask, None, c.text, tap=reader)
    seen = [*seen_by_eye.values(), *seen_by_reader.values()]
    assert len(seen) == 11 + 13
    assert {array.dtype for array in seen} == {np.dtype(np.float32)}
