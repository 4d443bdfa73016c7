"""The mask decoder against its formulas in loops, golden masks, and known mistakes."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from golden_line import GOLDEN
from mask_mistakes import MASK_MISTAKES, MaskMistake
from random_mask_decoders import (
    PUBLISHED,
    TINY,
    random_arrays,
    random_codes,
    weights_of,
)
from safetensors.numpy import load_file
from tolerances import (
    FLOAT32_MASKS,
    FLOAT64,
    ORACLE,
    SMALLEST_MASK_MISTAKE,
    relative_error,
)

from numpy_paligemma.answers import segmentation
from numpy_paligemma.answers.segmentation import (
    MaskDecoderWeights,
    conv,
    decode_masks,
    residual_block,
    transposed_conv,
)

DTYPES = {"float64": FLOAT64, "float32": FLOAT32_MASKS}
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def golden(dtype: str) -> tuple[np.ndarray, np.ndarray, MaskDecoderWeights]:
    """Read the golden tokens, their masks and the decoder."""
    arrays = load_file(GOLDEN / "mask_decoder.safetensors")
    codes, masks = arrays.pop("codes"), arrays.pop("masks")
    return codes, masks, weights_of(arrays, np.dtype(dtype).type)


def tiny_weights(dtype: type = np.float64) -> MaskDecoderWeights:
    return weights_of(random_arrays(TINY), dtype)


# --- the pieces, cell by cell ---------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3, 5])
def test_conv_is_its_formula_in_loops(k: int, rng: np.random.Generator) -> None:
    n, height, width, C, O = 2, 4, 6, 3, 5
    x, bias = rng.normal(size=(n, height, width, C)), rng.normal(size=O)
    weight = rng.normal(size=(O, C, k, k))
    expected = np.tile(bias, (n, height, width, 1))
    cells = product(range(height), range(width), range(k), range(k))
    for row, column, i, j in cells:
        y, z = row + i - k // 2, column + j - k // 2
        if 0 <= y < height and 0 <= z < width:
            seen = np.einsum("nc,oc->no", x[:, y, z], weight[:, :, i, j])
            expected[:, row, column] += seen
    assert relative_error(conv(x, weight, bias), expected) < ORACLE


def test_transposed_conv_is_its_formula_in_loops(rng: np.random.Generator) -> None:
    n, height, width, C, O = 2, 3, 5, 4, 6
    x, bias = rng.normal(size=(n, height, width, C)), rng.normal(size=O)
    weight = rng.normal(size=(C, O, 4, 4))
    expected = np.tile(bias, (n, 2 * height, 2 * width, 1))
    for row, column, i, j in product(range(height), range(width), range(4), range(4)):
        y, z = 2 * row + i - 1, 2 * column + j - 1
        if 0 <= y < 2 * height and 0 <= z < 2 * width:
            laid = np.einsum("nc,co->no", x[:, row, column], weight[:, :, i, j])
            expected[:, y, z] += laid
    assert relative_error(transposed_conv(x, weight, bias), expected) < ORACLE


def test_transposed_conv_is_the_transpose_of_a_convolution_of_stride_two(
    rng: np.random.Generator,
) -> None:
    """Its name's promise: ⟨transposed(x), z⟩ = ⟨x, strided(z)⟩ for all x and z."""
    x, z = rng.normal(size=(1, 3, 5, 4)), rng.normal(size=(1, 6, 10, 2))
    weight = rng.normal(size=(4, 2, 4, 4))
    padded = np.pad(z, ((0, 0), (1, 1), (1, 1), (0, 0)))
    strided = np.zeros_like(x)
    for y, column in product(range(3), range(5)):
        window = padded[:, 2 * y : 2 * y + 4, 2 * column : 2 * column + 4]
        strided[:, y, column] = np.einsum("nijo,coij->nc", window, weight)
    through = np.sum(transposed_conv(x, weight, np.zeros(2)) * z)
    assert through == pytest.approx(np.sum(x * strided), rel=ORACLE)


def test_a_residual_block_of_noughts_changes_nothing(rng: np.random.Generator) -> None:
    block = tiny_weights().blocks[0]
    nought = type(block)(*(type(k)(0 * k.weight, 0 * k.bias) for k in parts(block)))
    x = rng.normal(size=(2, 4, 4, TINY.width))  # negative numbers stay, too
    np.testing.assert_array_equal(residual_block(x, nought), x)


def parts(block: segmentation.ResidualWeights) -> list[segmentation.Kernel]:
    return [block.first, block.second, block.third]


# --- the whole ------------------------------------------------------------------------


@each_dtype
def test_the_golden_masks_come_out(dtype: str) -> None:
    codes, masks, w = golden(dtype)
    found = decode_masks(codes, w)
    assert found.dtype == dtype
    assert relative_error(found, masks) <= DTYPES[dtype]


@each_dtype
@pytest.mark.parametrize("mistake", MASK_MISTAKES, ids=lambda m: m.twin.__name__)
def test_a_known_mistake_misses_the_golden_masks(
    mistake: MaskMistake, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes, masks, w = golden(dtype)
    monkeypatch.setattr(segmentation, mistake.replaces, mistake.twin)
    found = segmentation.decode_masks(codes, w)
    assert relative_error(found, masks) >= SMALLEST_MASK_MISTAKE


def test_the_published_sizes_give_64_by_64() -> None:
    w = weights_of(random_arrays(PUBLISHED), np.float32)
    assert decode_masks(random_codes(PUBLISHED, 2), w).shape == (2, 64, 64)


def test_a_mask_of_many_is_the_mask_alone() -> None:
    w, codes = tiny_weights(), random_codes(TINY, 5)
    together = decode_masks(codes, w)
    for row in range(5):
        alone = decode_masks(codes[row : row + 1], w)
        assert relative_error(alone, together[row : row + 1]) <= FLOAT64


def test_no_tokens_give_no_masks() -> None:
    none = np.zeros((0, 16), np.int64)
    assert decode_masks(none, tiny_weights()).shape == (0, 64, 64)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_tokens_may_be_whole_numbers_of_any_size(dtype: type) -> None:
    w, codes = tiny_weights(), random_codes(TINY)
    np.testing.assert_array_equal(
        decode_masks(codes.astype(dtype), w), decode_masks(codes, w)
    )


def test_the_weights_stay_as_they_are() -> None:
    arrays = random_arrays(TINY)
    for array in arrays.values():
        array.flags.writeable = False
    decode_masks(random_codes(TINY), weights_of(arrays))


BAD_CODES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "fifteen": (lambda c: c[:, 1:], r"whole numbers \(n, 16\), came int64 \(3, 15\)"),
    "seventeen": (lambda c: np.pad(c, ((0, 0), (0, 1))), r"came int64 \(3, 17\)"),
    "one mask without its axis": (lambda c: c[0], r"came int64 \(16,\)"),
    "a grid": (lambda c: c.reshape(3, 4, 4), r"came int64 \(3, 4, 4\)"),
    "fractions": (lambda c: c / 2, r"came float64 \(3, 16\)"),
    "truth values": (lambda c: c > 0, r"came bool \(3, 16\)"),
    "below nought": (lambda c: c - 99, "expected 0 to 10, came -"),
    "beyond the codebook": (lambda c: c + TINY.rows, "expected 0 to 10, came 1"),
}


@pytest.mark.parametrize("case", BAD_CODES)
def test_tokens_that_name_no_mask_are_refused(case: str) -> None:
    spoil, told = BAD_CODES[case]
    with pytest.raises(ValueError, match=f"^codes: .*{told}"):
        decode_masks(spoil(random_codes(TINY)), tiny_weights())
