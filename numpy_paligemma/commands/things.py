"""What the commands tell of a reading: JSON, and warnings; and which mask decoder."""

import json
import logging
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

from numpy_paligemma.answers.detection import Detection
from numpy_paligemma.answers.reading import Reading, run_lengths
from numpy_paligemma.answers.segmentation import MaskDecoderWeights
from numpy_paligemma.checkpoints.mask_decoder import (
    find_mask_decoder,
    load_mask_decoder,
)

log = logging.getLogger(__name__)
QUOTED = 60  # letters of an answer in a warning


def choose_decoder(wanted: str | None) -> Callable[[Path], MaskDecoderWeights]:
    """Choose the mask decoder; one that was asked for is loaded here and now.

    Otherwise the checkpoint's own is looked for in its folder, or beside its `.npz`,
    when it is needed, and loaded once.
    """
    if wanted is None:
        return cache(lambda place: load_mask_decoder(find_mask_decoder(None, place)))
    weights = load_mask_decoder(find_mask_decoder(wanted, Path()))
    return lambda _: weights


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
        | ({"reason": found.reason} if found.reason else {})
        for thing, found in zip(reading.things, objects, strict=True)
    ]
    faults = [
        {"text": part.text, "reason": part.reason}
        for part in reading.parts
        if part.reason
    ]
    whole = {"answer": reading.text, "size": size, "objects": told, "faults": faults}
    return json.dumps(about | whole)


def warn(reading: Reading) -> None:
    """Warn of every fault, of equal ones once, and of masks that there are not."""
    faults = Counter((shortened(p.text), p.reason) for p in reading.parts if p.reason)
    for (text, reason), times in faults.items():
        often = f" ({times} times)" if times > 1 else ""
        log.warning("warning: in the answer, %s: %s%s", text, reason, often)
    if reading.unmasked:
        log.warning("warning: boxes without their masks: %s", reading.unmasked)


def shortened(text: str) -> str:
    """Quote a text on one line."""
    text = text.strip()
    return repr(text if len(text) <= QUOTED else text[:QUOTED] + "…")
