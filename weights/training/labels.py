"""What lies on each patch of a picture: the truth for the vision tower's heads."""

import numpy as np

from .scenes import GRID, PATCH, Box, Thing
from .shapes import number_mask

NOBODY, NO_MATTER = -1, -2  # a patch of ground; a patch that an object barely touches
NO_DIGIT = 10


def label_patches(share: np.ndarray) -> np.ndarray:
    """Give each patch to the object that covers most of it: (5, 64) -> (64,)."""
    most, who = share.max(0), share.argmax(0)
    owner = np.where(most > 0.1, who, NO_MATTER)
    return np.where(most < 0.015, NOBODY, owner).astype(np.int8)


def label_digits(digit: np.ndarray, thing: Thing, box: Box) -> None:
    """Write on each patch which digit's cell covers most of it, in place."""
    _, columns = number_mask(thing.digits, thing.face, int(thing.diameter), thing.gap)
    edges = np.arange(GRID + 1) * PATCH
    most = np.full(GRID * GRID, 0.1 * PATCH * PATCH)
    tall = overlap(edges, box[1], box[3])
    for character, (start, end) in zip(thing.digits, columns, strict=True):
        area = np.outer(tall, overlap(edges, box[0] + start, box[0] + end)).ravel()
        digit[area > most] = int(character)
        most = np.maximum(most, area)


def overlap(edges: np.ndarray, start: float, end: float) -> np.ndarray:
    """Measure how much of an interval falls between each two edges."""
    return np.clip(np.minimum(edges[1:], end) - np.maximum(edges[:-1], start), 0, None)
