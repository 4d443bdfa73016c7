"""What a caller hands in, refused where the model would run and be quietly wrong."""

import math
from collections.abc import Sequence

import numpy as np

from numpy_paligemma.model.config import PaliGemmaConfig

FARTHEST = 10  # from nought; the processor's pixels end at 1, other means at 3


def check_arrays(
    input_ids: np.ndarray,
    pixel_values: np.ndarray,
    attention_mask: np.ndarray,
    c: PaliGemmaConfig,
) -> None:
    """Refuse arrays of other shapes or values, and ids that the model does not have.

    NumPy would take a negative id for a row from the end, and pictures of another size
    may well have as many patches.
    """
    shape = input_ids.shape
    if len(shape) != 2 or attention_mask.shape != shape:
        msg = f"expected input_ids (B, T), came {shape}, and attention_mask likewise, "
        raise ValueError(msg + f"came {attention_mask.shape}")
    if not np.isin(attention_mask, (0, 1)).all():
        msg = "attention_mask: expected 0 for padding and 1 for the rest, came "
        raise ValueError(msg + str(np.setdiff1d(attention_mask, (0, 1))[0]))
    check_pictures(pixel_values, c)
    strange = (input_ids < 0) | (input_ids >= c.text.vocab_size)
    strange &= input_ids != c.image_token_id
    if strange.any():
        msg = f"input_ids: expected 0 to {c.text.vocab_size - 1}, came "
        raise ValueError(msg + str(input_ids[strange][0]))


def check_pictures(pixel_values: np.ndarray, c: PaliGemmaConfig) -> None:
    """Refuse pixels that the processor has not made: another shape, or raw ones."""
    size = c.vision.image_size
    picture = (c.vision.channels, size, size)
    if pixel_values.shape[1:] != picture:
        msg = (
            f"pixel_values: expected (pictures, {', '.join(map(str, picture))}), came "
        )
        raise ValueError(msg + str(pixel_values.shape))
    if not len(pixel_values):
        msg = "pixel_values: expected one picture or more, came none"
        raise ValueError(msg)
    came = str(pixel_values.dtype)
    if pixel_values.dtype.kind == "f":
        if (np.abs(pixel_values) <= FARTHEST).all():  # false for NaN, too
            return
        came = f"{pixel_values.min():g} to {pixel_values.max():g}"
    msg = f"pixel_values: expected floats within ±{FARTHEST}, came {came}; "
    raise ValueError(msg + "hand pictures to the processor")


def check_soft_tokens(
    soft_tokens: np.ndarray, pictures: int, c: PaliGemmaConfig
) -> None:
    """Refuse soft tokens that are not one look at each of the rows' pictures."""
    expected = (pictures, c.vision.patches, c.text.width)
    if soft_tokens.shape != expected:
        msg = (
            f"soft_tokens: expected {expected}, one entry a picture of the rows, came "
        )
        raise ValueError(msg + str(soft_tokens.shape))
    if soft_tokens.dtype.kind != "f":
        msg = f"soft_tokens: expected floats, came {soft_tokens.dtype}; "
        raise ValueError(msg + "take what look gives")


def check_padding(attention_mask: np.ndarray) -> None:
    """Refuse padding on the right: the next token is asked of the last place."""
    if not attention_mask[:, -1].all():
        msg = (
            "attention_mask: expected padding on the left, the last column is not all 1"
        )
        raise ValueError(msg)


def check_ends(eos_token_id: int | Sequence[int]) -> None:
    """Refuse ends that are no token ids: an answer would never meet them."""
    if np.asarray(eos_token_id).dtype.kind not in "iu":
        msg = f"eos_token_id: expected a token id or several, came {eos_token_id!r}"
        raise ValueError(msg)


def check_options(max_new_tokens: int, temperature: float, top_p: float) -> None:
    """Refuse options that are out of range."""
    if max_new_tokens < 0:
        msg = f"max_new_tokens: expected 0 or more, came {max_new_tokens}"
        raise ValueError(msg)
    if not 0 <= temperature < math.inf:
        msg = f"temperature: expected 0 or more, came {temperature}"
        raise ValueError(msg)
    if not 0 < top_p <= 1:
        msg = f"top_p: expected a number in (0, 1], came {top_p}"
        raise ValueError(msg)
