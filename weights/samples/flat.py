"""Sample pictures by machine: pixels, vectors, a plate, stickers, a poster."""

import io

import numpy as np
from cutting import (
    Thing,
    filled,
    ground,
    noise,
    number,
    points,
    shape,
    vignette,
)
from matplotlib import pyplot as plt
from PIL import Image, ImageFilter


def pixels() -> tuple[Image.Image, list[Thing]]:
    """Pixel art: 56 pixels to a side, each eight wide."""
    size = 56
    small = [
        shape(size, "red", "triangle", 0.2, 0.32, 0.17),
        shape(size, "blue", "square", 0.48, 0.72, 0.17),
        shape(size, "black", "circle", 0.78, 0.34, 0.14),
    ]
    dyes = {"red": (228, 40, 40), "blue": (40, 80, 220), "black": (16, 16, 16)}
    art = Image.new("RGB", (size, size), (214, 232, 208))
    hard = [
        Thing(t.colour, t.kind, t.mask.point(lambda level: 255 * (level > 110)))
        for t in small
    ]
    art = filled(art, hard, dyes, lambda _: Image.new("L", art.size, 255))
    nearest = Image.Resampling.NEAREST
    grown = [Thing(t.colour, t.kind, t.mask.resize((448, 448), nearest)) for t in hard]
    return art.resize((448, 448), nearest), grown


def vector() -> tuple[Image.Image, list[Thing]]:
    """Draw vectors with black outlines, rendered by matplotlib."""
    size = 640
    looks = [
        ("yellow", "square", 0.16, 0.3, 0.15, 10),
        ("purple", "star", 0.4, 0.7, 0.16, 0),
        ("green", "circle", 0.63, 0.27, 0.12, 0),
        ("red", "triangle", 0.84, 0.68, 0.15, 0),
    ]
    dyes = {"yellow": "#ffde17", "purple": "#7b1fa2", "green": "#2e9e3f"}
    figure = plt.figure(figsize=(1, 1), dpi=size, facecolor="#dfe9f5")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 1), ylim=(1, 0))
    axes.axis("off")
    for colour, kind, x, y, radius, turn in looks:
        face = dyes.get(colour, "#e02424")
        outline = points(kind, x, y, radius, turn)
        axes.fill(*outline.T, facecolor=face, edgecolor="black", linewidth=0.7)
    stream = io.BytesIO()
    figure.savefig(stream, dpi=size, facecolor=figure.get_facecolor())
    plt.close(figure)
    return Image.open(stream).convert("RGB"), [shape(size, *look) for look in looks]


def plate() -> tuple[Image.Image, list[Thing]]:
    """Write a house's number on an enamel plate, with a blue square beside it."""
    size = 600
    things = [
        shape(size, "blue", "square", 0.19, 0.42, 0.16, 0),
        number(size, "black", "137", 0.66, 0.52, 0.26, "DejaVuSerif-Bold.ttf"),
    ]
    shine = np.linspace(14, -14, size)[:, None, None]
    enamel = ground(size, (240, 240, 236), shine, noise(size, 200, 4, 1))
    dyes = {"blue": (22, 70, 190), "black": (18, 18, 20)}
    opaque = Image.new("L", enamel.size, 255)
    return vignette(filled(enamel, things, dyes, lambda _: opaque), 0.15), things


def stickers() -> tuple[Image.Image, list[Thing]]:
    """Stickers with a white rim on a dark notebook."""
    size = 600
    things = [
        shape(size, "red", "star", 0.17, 0.3, 0.15, 12),
        shape(size, "yellow", "star", 0.42, 0.68, 0.16, -8),
        shape(size, "green", "square", 0.63, 0.25, 0.13, 20),
        shape(size, "yellow", "circle", 0.83, 0.7, 0.12),
    ]
    dyes = {"red": (222, 36, 36), "yellow": (252, 216, 36), "green": (44, 168, 60)}
    cover = ground(size, (38, 40, 62), noise(size, 2, 3, 1), noise(size, 140, 5, 2))
    rims = [
        Thing(thing.colour, thing.kind, thing.mask.filter(ImageFilter.MaxFilter(13)))
        for thing in things
    ]
    for rim in rims:
        cover.paste(Image.new("RGB", cover.size, (250, 250, 248)), mask=rim.mask)
    opaque = Image.new("L", cover.size, 255)
    return filled(cover, things, dyes, lambda _: opaque), rims


def poster() -> tuple[Image.Image, list[Thing]]:
    """Print a large, strongly compressed poster: five shapes on a sky."""
    size = 1800
    things = [
        shape(size, "black", "star", 0.13, 0.22, 0.12),
        shape(size, "red", "circle", 0.32, 0.7, 0.11),
        shape(size, "yellow", "circle", 0.5, 0.28, 0.11),
        shape(size, "red", "circle", 0.68, 0.74, 0.1),
        shape(size, "purple", "square", 0.86, 0.32, 0.13, 0),
    ]
    sky = np.linspace(-16, 16, size)[:, None, None]
    paper_sky = ground(size, (196, 222, 246), sky)
    dyes = {"black": (12, 12, 12), "red": (230, 30, 40), "yellow": (255, 222, 0)}
    opaque = Image.new("L", paper_sky.size, 255)
    dyes["purple"] = (118, 24, 150)
    return filled(paper_sky, things, dyes, lambda _: opaque), things
