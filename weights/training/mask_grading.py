"""Judge masks: decode them, paste them into their boxes, compare with what was painted.

Decoding and pasting are `numpy_paligemma`'s own, as a user gets them.
"""

import re
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from PIL import Image

from numpy_paligemma.answers.paste import paste_mask
from numpy_paligemma.answers.segmentation import MaskDecoderWeights, decode_masks

from .grading import overlap_share
from .truth import BINS, Question

SEGMENTATION = re.compile(r"((?:<loc\d{4}>){4})((?:<seg\d{3}>){16}) ([a-z ]+)")
FINER = 4  # the same picture at four times its side
NO_SHARES = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Segmented:
    """One object of an answer."""

    bins: tuple[int, ...]  # top, left, bottom, right
    mask: np.ndarray  # (64, 64), inside above 0
    label: str


def segmented(text: str, w: MaskDecoderWeights) -> list[Segmented]:
    """Read an answer and decode its masks; malformed pieces are left out."""
    found = SEGMENTATION.findall(text)
    if not found:
        return []
    places, tokens, labels = zip(*found, strict=True)
    bins = [tuple(map(int, re.findall(r"\d{4}", some))) for some in places]
    codes = np.array([list(map(int, re.findall(r"\d{3}", some))) for some in tokens])
    masks = decode_masks(np.minimum(codes, len(w.codebook) - 1), w)
    names = [label.strip() for label in labels]
    return [Segmented(*each) for each in zip(bins, masks, names, strict=True)]


def pasted(thing: Segmented, side: int) -> np.ndarray:
    """Paste a mask into its box of a square picture, scaled by 1023 as big_vision."""
    top, left, bottom, right = (at * side / (BINS - 1) for at in thing.bins)
    return paste_mask(thing.mask, (left, top, right, bottom), (side, side))


def mask_share(a: np.ndarray, b: np.ndarray) -> float:
    """Measure intersection over union of two masks of one size."""
    return float((a & b).sum() / max(1, (a | b).sum()))


def shares(
    thing: Segmented, bins: tuple[int, ...], covered: np.ndarray
) -> tuple[float, ...]:
    """Compare with one painted object: the mask, the mask on a finer grid, the box."""
    side = len(covered)
    large = Image.fromarray(covered).resize(
        (FINER * side,) * 2, Image.Resampling.BILINEAR
    )
    return (
        mask_share(pasted(thing, side), covered > 0.5),
        mask_share(pasted(thing, FINER * side), np.asarray(large) > 0.5),
        overlap_share(bins, thing.bins),
    )


def best_shares(
    question: Question, said: list[Segmented], painted: list[np.ndarray]
) -> list[tuple[float, ...]]:
    """Give each true object the best unused answer with its label, or zeros."""
    places = re.findall(r"(?:<loc\d{4}>){4}", question.answer)
    label = question.prompt.removeprefix("segment ")
    rest = [thing for thing in said if thing.label == label]
    found = []
    for place, covered in zip(places, painted, strict=True):
        bins = tuple(map(int, re.findall(r"\d{4}", place)))
        fits = [(shares(thing, bins, covered), i) for i, thing in enumerate(rest)]
        best, at = max(fits, default=(NO_SHARES, -1))
        found.append(best)
        if at >= 0:
            del rest[at]
    return found


def mask_figures(
    questions: list[Question],
    said: list[str],
    painted: list[list[np.ndarray]],
    w: MaskDecoderWeights,
) -> dict[str, dict[str, float]]:
    """Average over each task: mean IoU of masks and boxes, and the right number."""
    values: dict[str, list[float]] = defaultdict(list)
    for question, text, covered in zip(questions, said, painted, strict=True):
        things = segmented(text, w)
        values[f"{question.task}: right number"].append(len(things) == len(covered))
        if not covered:
            values[f"{question.task}: nothing there"].append(not text)
        for mask, finer, box in best_shares(question, things, covered):
            values[f"{question.task}: mask IoU"].append(mask)
            values[f"{question.task}: mask IoU, {FINER} times finer"].append(finer)
            values[f"{question.task}: mask IoU ≥ 0.75"].append(mask >= 0.75)
            values[f"{question.task}: box IoU"].append(box)
    return {
        name: {"share": round(float(np.mean(some)), 4), "of": len(some)}
        for name, some in sorted(values.items())
    }
