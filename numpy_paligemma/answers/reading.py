"""An answer about a picture: its boxes in pixels, and its masks as large as the picture."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from numpy_paligemma.answers.detection import (
    BOX_SCALES,
    Box,
    Detection,
    Part,
    box_in_pixels,
    parse_answer,
)
from numpy_paligemma.answers.drawing import Thing
from numpy_paligemma.answers.paste import paste_mask
from numpy_paligemma.answers.segmentation import MaskDecoderWeights, decode_masks

Decoder = Callable[[], MaskDecoderWeights]


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer about a picture: its text, all parts of it, and the things in it."""

    text: str
    parts: list[Part]
    things: list[Thing]  # one to each Detection among the parts
    unmasked: str = ""  # why mask codes became no masks


def read_answer(
    text: str,
    size: tuple[int, int],
    *,
    scale: int = BOX_SCALES[0],
    decoder: Decoder | None = None,
) -> Reading:
    """Read an answer's boxes and masks.

    Parameters
    ----------
    text : str
        What the model said.
    size : width and height of the picture in pixels
    scale : {1023, 1024}
        What a bin is divided by; see `numpy_paligemma.answers.detection.box_in_pixels`.
    decoder : function without arguments to MaskDecoderWeights, optional
        Called if there are mask codes. Without it, or if it raises OSError or
        ValueError, boxes go without masks, and `unmasked` says why.

    Returns
    -------
    Reading
    """
    parts = parse_answer(text)
    objects = [part for part in parts if isinstance(part, Detection)]
    boxes = [box_in_pixels(found.bins, size, scale=scale) for found in objects]
    masks, unmasked = _masks(objects, boxes, size, decoder)
    things = [
        Thing(found.label, box, masks.get(i))
        for i, (found, box) in enumerate(zip(objects, boxes, strict=True))
    ]
    return Reading(text, parts, things, unmasked)


def in_words(thing: Thing) -> str:
    """Say where a thing is, in whole pixels."""
    left, top, right, bottom = map(round, thing.box)
    return f"{thing.label or 'something'} at {left}, {top} – {right}, {bottom}"


def run_lengths(mask: np.ndarray) -> dict[str, list[int]]:
    """Write a mask as COCO does, uncompressed.

    How many pixels are outside, then inside, then outside …, down the columns.
    """
    flat = mask.ravel(order="F")
    turns = np.flatnonzero(np.diff(flat, prepend=False))
    return {
        "size": list(mask.shape),
        "counts": np.diff(turns, prepend=0, append=flat.size).tolist(),
    }


def _masks(
    objects: list[Detection],
    boxes: list[Box],
    size: tuple[int, int],
    decoder: Decoder | None,
) -> tuple[dict[int, np.ndarray], str]:
    """Make the masks of those objects that have codes, or say why there are none."""
    coded = [i for i, found in enumerate(objects) if found.codes]
    if not coded:
        return {}, ""
    if decoder is None:
        return {}, "no mask decoder was given"
    try:
        weights = decoder()
    except (OSError, ValueError) as error:
        return {}, " ".join(str(error).split())
    small = decode_masks(np.array([objects[i].codes for i in coded]), weights)
    pairs = zip(coded, small, strict=True)
    return {i: paste_mask(mask, boxes[i], size) for i, mask in pairs}, ""
