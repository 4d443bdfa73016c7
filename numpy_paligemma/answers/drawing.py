"""Boxes, masks and labels drawn onto a picture, the same every time.

The colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which people
with any kind of colour vision tell apart: one to each label in the order in which labels
come, the eighth starts again. Each line has a rim of black or white, whichever is farther
from its colour, and so shows on any ground.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from numpy_paligemma.answers.detection import Box
from numpy_paligemma.answers.tags import Pixels, draw_tags

COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#0072b2", "#d55e00")
DARK = {"#0072b2"}  # what white is farther from than black
VEIL = 0.2  # how much of its colour a mask lays over what is under it
JPEG = {"quality": 90, "subsampling": 0}  # thin coloured lines blur at less
LEGIBLE, LONGEST = 448, 2048  # pixels of a side: enlarged to that, never beyond this

Picture = Image.Image


@dataclass(frozen=True, slots=True)
class Thing:
    """What is drawn: a label, which may be empty, a box, and a mask if there is one."""

    label: str
    box: Box  # in pixels of the picture
    mask: np.ndarray | None = None  # bool, (height, width) of the picture


class Pen(NamedTuple):
    """What a thing is drawn with: colours, and the lines' widths in pixels."""

    colour: str
    ink: str
    line: int
    rim: int


def enlargement(size: tuple[int, int]) -> int:
    """Say how many times as large a picture is drawn, so that its labels can be read.

    Once, but for a picture with a side below 448 pixels; no side grows beyond 2048.
    """
    return max(1, min(math.ceil(LEGIBLE / min(size)), LONGEST // max(size)))


def draw_things(picture: Image.Image, things: Iterable[Thing]) -> Image.Image:
    """Draw things onto a picture: masks below, then boxes, then labels.

    Parameters
    ----------
    picture : Pillow image in mode RGB, as `load_image` gives one
    things : Thing, several
        Of those with the same label and box one is drawn, the first that has a mask
        where one has. A box may have its corners in any order, and is moved into the
        picture. Pillow's own font knows little beyond English letters: accents are
        left off, other letters are frames.

    Returns
    -------
    Pillow image in mode RGB, `enlargement` times as large

    Raises
    ------
    ValueError
        If the picture is in another mode, or a mask of another size.
    """
    if picture.mode != "RGB":
        msg = f"expected a picture in mode RGB, came {picture.mode}; use load_image"
        raise ValueError(msg)
    times = enlargement(picture.size)
    size = (picture.width * times, picture.height * times)
    canvas = picture.resize(size, Image.Resampling.BICUBIC)

    drawn = _once(things)
    pens = _pens([thing.label for thing in drawn], size)
    for thing, pen in zip(drawn, pens, strict=True):
        if thing.mask is not None:
            _lay_mask(canvas, thing.mask, picture.size, pen)
    draw = ImageDraw.Draw(canvas)
    boxes = [_pixels(thing.box, times, size) for thing in drawn]
    for box, pen in zip(boxes, pens, strict=True):
        _draw_box(draw, box, pen)
    labels = [thing.label for thing in drawn]
    draw_tags(draw, labels, boxes, [(pen.colour, pen.ink) for pen in pens])
    return canvas


def encode(picture: Picture, name: str) -> bytes:
    """Turn a picture into a file's bytes, of the kind that the file's name ends in.

    Raises
    ------
    ValueError
        If Pillow cannot write that kind, or not this picture.
    """
    kind, file = _kind(name), BytesIO()
    try:
        picture.save(file, kind, **(JPEG if kind == "JPEG" else {}))
    except MemoryError:
        raise
    except Exception as error:  # every kind has its own
        msg = f"{name}: the picture cannot be written as {kind} ({error}); "
        raise ValueError(msg + "take another ending, such as .png") from error
    return file.getvalue()


def check_ending(name: str) -> None:
    """Refuse a file's name for its ending, before there is a picture.

    Raises
    ------
    ValueError
        If `encode` would, or would change the picture's size.
    """
    trial, kind = Image.new("RGB", (400, 300)), _kind(name)
    data = encode(trial, name)
    size = Image.open(BytesIO(data)).size if kind in Image.OPEN else trial.size
    if size != trial.size:  # an icon is shrunk without a word
        msg = f"{name}: {kind} makes {trial.size} into {size}; take another ending, "
        raise ValueError(msg + "such as .png")


def _kind(name: str) -> str:
    """Find what Pillow calls the kind of file that a name ends in."""
    kind = Image.registered_extensions().get(Path(name).suffix.lower(), "")
    if kind not in Image.SAVE:
        msg = f"{name}: expected a name that ends as a picture's, such as .png or .jpg"
        raise ValueError(msg)
    return kind


def _once(things: Iterable[Thing]) -> list[Thing]:
    """Keep one of those that have the same label and box: the first that has a mask."""
    kept: dict[tuple[str, Box], Thing] = {}
    for thing in things:
        key = (thing.label, thing.box)
        if kept.setdefault(key, thing).mask is None:
            kept[key] = thing
    return list(kept.values())


def _pens(labels: Sequence[str], size: tuple[int, int]) -> list[Pen]:
    """Give every label its colour, and lines as wide as suits the picture."""
    order = list(dict.fromkeys(labels))
    line = max(2, round(max(size) / 160))
    rim = max(1, line // 3)
    colours = [COLOURS[order.index(label) % len(COLOURS)] for label in labels]
    return [Pen(c, "white" if c in DARK else "black", line, rim) for c in colours]


def _pixels(box: Box, times: int, size: tuple[int, int]) -> Pixels:
    """Find a box's outermost pixels on the canvas, its corners put in order."""
    left, right = _span(box[0] * times, box[2] * times, size[0])
    top, bottom = _span(box[1] * times, box[3] * times, size[1])
    return left, top, right, bottom


def _span(a: float, b: float, side: int) -> tuple[int, int]:
    """Find the first and the last pixel between two edges; there is always one."""
    first = min(max(round(min(a, b)), 0), side - 1)
    return first, min(max(round(max(a, b)) - 1, first), side - 1)


def _lay_mask(
    canvas: Image.Image, mask: np.ndarray, size: tuple[int, int], pen: Pen
) -> None:
    """Lay a mask's colour over the canvas, and a line with a rim along its edge."""
    if mask.shape != size[::-1]:
        msg = f"expected a mask of shape {size[::-1]}, came {mask.shape}"
        raise ValueError(msg)
    inside = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8))
    inside = inside.resize(canvas.size, Image.Resampling.BILINEAR)
    inside = inside.point(lambda level: 255 * (level > 127))
    canvas.paste(pen.colour, mask=inside.point(lambda level: round(level * VEIL)))
    near = np.asarray(inside.filter(ImageFilter.BoxBlur(pen.line)))
    rim = np.asarray(inside.filter(ImageFilter.BoxBlur(pen.rim)))
    here = np.asarray(inside) > 0
    canvas.paste(pen.ink, mask=Image.fromarray(~here & (rim > 0)))
    canvas.paste(pen.colour, mask=Image.fromarray(here & (near < 255)))


def _draw_box(draw: ImageDraw.ImageDraw, box: Pixels, pen: Pen) -> None:
    """Draw a box's line inwards from its outermost pixels, a rim on either side."""
    left, top, right, bottom = box
    rim = pen.rim
    around = (left - rim, top - rim, right + rim, bottom + rim)
    draw.rectangle(around, outline=pen.ink, width=pen.line + 2 * rim)
    draw.rectangle(box, outline=pen.colour, width=pen.line)
