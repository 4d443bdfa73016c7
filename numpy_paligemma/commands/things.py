"""What an answer says of a picture: its things, as JSON, in words, and warnings."""

import json
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from numpy_paligemma.answers.detection import (
    Detection,
    Part,
    box_in_pixels,
    parse_answer,
)
from numpy_paligemma.answers.drawing import Thing
from numpy_paligemma.answers.paste import paste_mask
from numpy_paligemma.answers.segmentation import MaskDecoderWeights, decode_masks
from numpy_paligemma.checkpoints.mask_decoder import (
    find_mask_decoder,
    load_mask_decoder,
)

log = logging.getLogger(__name__)
QUOTED = 60  # letters of an answer in a warning

Decoder = Callable[[], MaskDecoderWeights]


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer about a picture: its text, all parts of it, and the things in it."""

    text: str
    parts: list[Part]
    things: list[Thing]  # one to each Detection among the parts


def read_answer(
    text: str, size: tuple[int, int], *, scale: int, decoder: Decoder
) -> Reading:
    """Read an answer's boxes and masks, and warn of what is odd about it.

    `decoder` is called if there are mask codes. If it raises OSError or ValueError the
    boxes go without masks, and a warning says so.
    """
    parts = parse_answer(text)
    _warn(parts)
    objects = [part for part in parts if isinstance(part, Detection)]
    boxes = [box_in_pixels(found.bins, size, scale=scale) for found in objects]
    coded = [i for i, found in enumerate(objects) if found.codes]
    masks: dict[int, np.ndarray] = {}
    if coded and (weights := _or_warn(decoder)):
        small = decode_masks(np.array([objects[i].codes for i in coded]), weights)
        masks = {
            i: paste_mask(mask, boxes[i], size)
            for i, mask in zip(coded, small, strict=True)
        }
    things = [
        Thing(found.label, box, masks.get(i))
        for i, (found, box) in enumerate(zip(objects, boxes, strict=True))
    ]
    return Reading(text, parts, things)


def choose_decoder(wanted: str | None, folder: Callable[[], Path]) -> Decoder:
    """Choose the mask decoder; one that was asked for is loaded here and now.

    Otherwise the checkpoint's own is looked for in its folder, when it is needed.
    """
    if wanted is None:
        return lambda: load_mask_decoder(find_mask_decoder(None, folder()))
    weights = load_mask_decoder(find_mask_decoder(wanted, Path()))
    return lambda: weights


def to_json(reading: Reading, size: tuple[int, int], **about: str) -> str:
    """Tell a reading as one JSON object, in ASCII whatever the labels are."""
    objects = [part for part in reading.parts if isinstance(part, Detection)]
    told = [
        {
            "label": thing.label,
            "box": [round(at, 2) for at in thing.box],
            "bins": found.bins,
        }
        | ({} if thing.mask is None else {"mask": run_lengths(thing.mask)})
        for thing, found in zip(reading.things, objects, strict=True)
    ]
    faults = [
        {"text": part.text, "reason": part.reason}
        for part in reading.parts
        if part.reason
    ]
    whole = {"answer": reading.text, "size": size, "objects": told, "faults": faults}
    return json.dumps(about | whole)


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


def shortened(text: str) -> str:
    """Quote a text on one line."""
    text = text.strip()
    return repr(text if len(text) <= QUOTED else text[:QUOTED] + "…")


def _warn(parts: Sequence[Part]) -> None:
    """Warn of every fault, of equal ones once."""
    faults = Counter((shortened(p.text), p.reason) for p in parts if p.reason)
    for (text, reason), times in faults.items():
        often = f" ({times} times)" if times > 1 else ""
        log.warning("warning: in the answer, %s: %s%s", text, reason, often)


def _or_warn(decoder: Decoder) -> MaskDecoderWeights | None:
    """Get the mask decoder, or say why there are no masks."""
    try:
        return decoder()
    except (OSError, ValueError) as error:
        why = " ".join(str(error).split())
        log.warning("warning: boxes without their masks: %s", why)
        return None
