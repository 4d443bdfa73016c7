"""A mask of 64 × 64 into its box of the picture."""

import numpy as np
from PIL import Image


def paste_mask(
    mask: np.ndarray,
    box: tuple[float, float, float, float],
    size: tuple[int, int],
) -> np.ndarray:
    """Stretch a mask over its box, and say of every pixel whether it is inside.

    The box's edges are cut off to whole pixels, the mask is stretched to that size as
    Pillow does it with BILINEAR, and what is above 0 is inside. Cutting off, the
    smaller sizes' antialiasing and the strict > are those of PaliGemma's own evaluation.

    Parameters
    ----------
    mask : float array, (height, width)
        As `decode_masks` gives one, (64, 64).
    box : (left, top, right, bottom)
        In pixels of the picture; right and bottom are the first ones outside. An edge
        beyond the picture is moved onto the picture's.
    size : (width, height)
        Of the picture, in pixels, as Pillow's `Image.size`.

    Returns
    -------
    bool array, (height, width)
        False everywhere if the box, cut to whole pixels, holds none.

    References
    ----------
    big_vision/evaluators/proj/paligemma/transfers/segmentation.py, class Evaluator.
    """
    width, height = size
    left, right = (int(min(max(edge, 0), width)) for edge in (box[0], box[2]))
    top, bottom = (int(min(max(edge, 0), height)) for edge in (box[1], box[3]))
    inside = np.zeros((height, width), bool)
    if left < right and top < bottom:
        picture = Image.fromarray(np.asarray(mask, np.float32))  # Pillow's mode "F"
        stretched = picture.resize(
            (right - left, bottom - top), Image.Resampling.BILINEAR
        )
        inside[top:bottom, left:right] = np.asarray(stretched) > 0
    return inside
