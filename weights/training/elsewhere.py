"""Test pictures by other hands: Pillow's and matplotlib's own drawing, other sizes.

Nothing is shared with the training generator but the words. Shapes are as large as a
plain training picture's: 18 to 40 of 112 pixels, on light grounds.
"""

import io
import math
import random

import matplotlib as mpl
from matplotlib import patches
from matplotlib import pyplot as plt
from PIL import Image, ImageDraw, ImageFont

from .colours import COLOURS
from .scenes import SIZE
from .shapes import KINDS
from .truth import Fact

CSS = ("red", "green", "blue", "yellow", "purple", "black")
GROUNDS = ("white", "whitesmoke", "aliceblue", "beige", "lavender", "lightgray")
NUMBER_FACE = "STIXGeneralBol.ttf"

Spot = tuple[str, str, float, float, float]  # kind, colour, x, y, radius: shares of 1
Picture = tuple[Image.Image, list[Fact], str]


def draw_elsewhere(rng: random.Random) -> Picture:
    """Draw one picture: three quarters by Pillow, half of these through JPEG."""
    count = rng.randint(1, 4)
    spots = []
    for i in range(count):
        radius = rng.uniform(0.08, 0.36 / max(count, 2))
        x = (i + 0.5 + rng.uniform(-0.04, 0.04)) / count
        y = rng.uniform(0.22, 0.78)
        spots.append((rng.choice(KINDS[:4]), rng.choice(CSS), x, y, radius))
    digits = ""
    if count < 4 and rng.random() < 0.45:
        at = rng.randrange(count)
        digits = str(rng.randint(0, 999 if count < 3 else 99))
        colour = rng.choice([colour for colour in CSS if colour != "yellow"])
        spots[at] = ("number", colour, *spots[at][2:])
    if rng.random() < 0.25 and not digits:
        return draw_by_matplotlib(rng, spots)
    return draw_by_pillow(rng, spots, digits)


def fact(kind: str, colour: str, box: tuple[float, ...], side: float) -> Fact:
    """Note an object, its box scaled to training pixels."""
    left, top, right, bottom = (at * SIZE / side for at in box)
    return Fact(KINDS.index(kind), COLOURS.index(colour), (left, top, right, bottom))


def corners(kind: str, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    """Return a polygon's corners; a square's radius is half its side."""
    if kind == "square":
        left, top, right, bottom = x - radius, y - radius, x + radius, y + radius
        return [(left, top), (right, top), (right, bottom), (left, bottom)]
    count = {"triangle": 3, "star": 10}[kind]
    reach = [
        1.2 * radius * (0.45 if kind == "star" and i % 2 else 1) for i in range(count)
    ]
    turns = [2 * math.pi * i / count - math.pi / 2 for i in range(count)]
    return [
        (x + r * math.cos(t), y + r * math.sin(t))
        for r, t in zip(reach, turns, strict=True)
    ]


def extent(kind: str, x: float, y: float, radius: float) -> tuple[float, ...]:
    """Return left, top, right and bottom of a shape."""
    if kind == "circle":
        return (x - radius, y - radius, x + radius, y + radius)
    xs, ys = zip(*corners(kind, x, y, radius), strict=True)
    return (min(xs), min(ys), max(xs), max(ys))


def draw_by_pillow(rng: random.Random, spots: list[Spot], digits: str) -> Picture:
    """Draw with `ImageDraw`, jagged, at 224 to 700 pixels."""
    side = rng.randint(224, 700)
    image = Image.new("RGB", (side, side), rng.choice(GROUNDS))
    pen = ImageDraw.Draw(image)
    facts = []
    for kind, colour, *place in spots:
        x, y, radius = (at * side for at in place)
        if kind == "number":
            face = str(mpl.get_data_path()) + "/fonts/ttf/" + NUMBER_FACE
            font = ImageFont.truetype(face, rng.uniform(0.24, 0.3) * side)
            pen.text((x, y), digits, colour, font, anchor="mm")
            box = pen.textbbox((x, y), digits, font, anchor="mm")
            facts.append(fact(kind, colour, box, side))
            continue
        if kind == "circle":
            pen.ellipse(extent(kind, x, y, radius), colour)
        else:
            pen.polygon(corners(kind, x, y, radius), colour)
        facts.append(fact(kind, colour, extent(kind, x, y, radius), side))
    if rng.random() < 0.5:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=rng.randint(40, 90))
        image = Image.open(stream).convert("RGB")
    return image, facts, digits


def draw_by_matplotlib(rng: random.Random, spots: list[Spot]) -> Picture:
    """Draw as a vector graphic, rendered with smooth edges at 300 pixels."""
    figure = plt.figure(figsize=(1, 1), dpi=300, facecolor=rng.choice(GROUNDS))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 1), ylim=(1, 0))
    axes.axis("off")
    for kind, colour, *place in spots:
        x, y, radius = place
        if kind == "circle":
            patch: patches.Patch = patches.Circle((x, y), radius, color=colour, lw=0)
        else:
            patch = patches.Polygon(corners(kind, x, y, radius), color=colour, lw=0)
        axes.add_patch(patch)
    stream = io.BytesIO()
    figure.savefig(stream, dpi=300, facecolor=figure.get_facecolor())
    plt.close(figure)
    facts = [fact(kind, colour, extent(kind, *at), 1) for kind, colour, *at in spots]
    return Image.open(stream).convert("RGB"), facts, ""
