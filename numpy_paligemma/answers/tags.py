"""Labels on tags of their colour, beside their boxes and inside the picture."""

import math
import unicodedata
from collections.abc import Sequence
from typing import cast

from PIL import ImageDraw, ImageFont

Pixels = tuple[int, int, int, int]  # the outermost pixels: left, top, right, bottom


def draw_tags(
    draw: ImageDraw.ImageDraw,
    labels: Sequence[str],
    boxes: Sequence[Pixels],
    colours: Sequence[tuple[str, str]],
) -> None:
    """Write every label that is not empty beside its box.

    Parameters
    ----------
    draw : of a Pillow image in mode RGB
    labels : n strings
        A label too long for the picture ends in an ellipsis.
    boxes : n boxes
    colours : n pairs
        The tag's and the letters'.
    """
    width, height = draw.im.size
    points = min(max(14, round(max(width, height) / 28)), max(6, height // 3))
    # given a size, Pillow never returns its bitmap font
    font = cast("ImageFont.FreeTypeFont", ImageFont.load_default(points))
    pad = math.ceil(font.size / 5)
    taken: list[Pixels] = []
    for label, box, (colour, ink) in zip(labels, boxes, colours, strict=True):
        text = _shortened(_legible(label), font, width - 2 * pad)
        wide = math.ceil(font.getlength(text)) + 2 * pad
        tag = _place(box, (wide, sum(font.getmetrics())), (width, height), taken)
        if text and tag is not None:
            draw.rectangle(tag, fill=colour)
            draw.text((tag[0] + pad, tag[1]), text, fill=ink, font=font)
            taken.append(tag)


def _legible(label: str) -> str:
    """Leave off accents, which Pillow's font lacks, and make every space one blank."""
    letters = unicodedata.normalize("NFKD", " ".join(label.split()))
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def _shortened(text: str, font: ImageFont.FreeTypeFont, room: int) -> str:
    """Cut a text until it fits; nothing where not one letter does."""
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "…") > room:
        text = text[:-1]
    return text and text + "…"


def _place(
    box: Pixels, tag: tuple[int, int], size: tuple[int, int], taken: Sequence[Pixels]
) -> Pixels | None:
    """Find room above the box, below it or in it; None if the picture has too little."""
    left, top, _, bottom = box
    wide, high = tag
    x = min(left, size[0] - wide)
    lines = [top - high, bottom + 1, top, bottom + 1 - high, 0]
    spots = [
        (x, y, x + wide - 1, y + high - 1) for y in lines if 0 <= y <= size[1] - high
    ]
    free = [spot for spot in spots if not any(_meet(spot, other) for other in taken)]
    return next(iter([*free, *spots]), None)


def _meet(a: Pixels, b: Pixels) -> bool:
    """Tell whether two boxes have a pixel in common."""
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]
