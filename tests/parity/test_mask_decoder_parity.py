"""The mask decoder against PyTorch's convolutions, on random weights through our loader."""

from pathlib import Path

import numpy as np
import pytest
from random_mask_decoders import (
    PUBLISHED,
    TINY,
    Arrays,
    Sizes,
    random_arrays,
    random_codes,
    weights_of,
)
from safetensors.numpy import load_file
from tolerances import FLOAT32_MASKS, FLOAT64, relative_error

torch = pytest.importorskip("torch")

from golden_line import GOLDEN
from their_mask_decoder import their_masks

from numpy_paligemma.answers.segmentation import decode_masks
from numpy_paligemma.checkpoints.mask_decoder import load_mask_decoder

pytestmark = pytest.mark.parity

SEEDS = range(5)
MASKS = 4


def published(seed: int, folder: Path) -> tuple[Arrays, Path]:
    """Write a random decoder of the published sizes."""
    arrays = random_arrays(PUBLISHED, seed)
    np.savez(folder / "vae-oid.npz", **arrays)
    return arrays, folder / "vae-oid.npz"


@pytest.mark.parametrize("seed", SEEDS)
def test_masks_of_the_published_sizes_are_equal_in_float64(
    seed: int, tmp_path: Path
) -> None:
    arrays, path = published(seed, tmp_path)
    codes = random_codes(PUBLISHED, MASKS)
    ours = decode_masks(codes, load_mask_decoder(path, "float64"))
    assert relative_error(ours, their_masks(codes, arrays, PUBLISHED)) <= FLOAT64


@pytest.mark.parametrize("seed", SEEDS)
def test_masks_of_the_published_sizes_are_close_in_float32(
    seed: int, tmp_path: Path
) -> None:
    """And no further from float64 than twice PyTorch's own float32."""
    arrays, path = published(seed, tmp_path)
    codes = random_codes(PUBLISHED, MASKS)
    truth = their_masks(codes, arrays, PUBLISHED)
    ours = relative_error(decode_masks(codes, load_mask_decoder(path)), truth)
    theirs = their_masks(codes, arrays, PUBLISHED, torch.float32)
    assert ours <= min(FLOAT32_MASKS, 2 * relative_error(theirs, truth))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "sizes",
    [TINY, Sizes("wider", 5, 17, 10, (12, 7, 9, 1))],
    ids=lambda s: s.name,
)
def test_masks_of_other_sizes_are_equal_in_float64(sizes: Sizes, seed: int) -> None:
    arrays, codes = random_arrays(sizes, seed), random_codes(sizes, MASKS)
    ours = decode_masks(codes, weights_of(arrays))
    assert relative_error(ours, their_masks(codes, arrays, sizes)) <= FLOAT64


def test_the_golden_masks_are_what_pytorch_makes_of_them() -> None:
    arrays = load_file(GOLDEN / "mask_decoder.safetensors")
    codes, masks = arrays.pop("codes"), arrays.pop("masks")
    assert relative_error(their_masks(codes, arrays, TINY), masks) <= FLOAT64
