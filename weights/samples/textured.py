"""Sample pictures by hand: paper, chalk, crayon, watercolour, light."""

import numpy as np
from cutting import (
    Thing,
    filled,
    ground,
    noise,
    number,
    picture,
    scaled,
    shape,
    vignette,
)
from PIL import Image, ImageChops, ImageDraw, ImageFilter


def paper() -> tuple[Image.Image, list[Thing]]:
    """Paper cut-outs on a desk, photographed at an angle in soft light."""
    size = 640
    things = [
        shape(size, "red", "circle", 0.23, 0.33, 0.145),
        shape(size, "blue", "star", 0.56, 0.64, 0.205, 8),
        shape(size, "yellow", "triangle", 0.765, 0.275, 0.165, -6),
    ]
    dyes = {"red": (205, 38, 42), "blue": (36, 84, 190), "yellow": (250, 204, 30)}
    fibres = noise(size, 2, 3, 1) + noise(size, 9, 2, 2)
    desk = ground(size, (236, 229, 215), fibres, noise(size, 160, 4, 3))
    for i, thing in enumerate(things):
        shadow = ImageChops.offset(thing.mask, 7, 11).filter(
            ImageFilter.GaussianBlur(9)
        )
        desk.paste(Image.new("RGB", desk.size, (70, 58, 50)), mask=scaled(shadow, 0.5))
        sheet = ground(
            size, dyes[thing.colour], fibres * 1.4, noise(size, 90, 5, 7 + i)
        )
        light = thing.mask.filter(ImageFilter.GaussianBlur(2))
        rim = ImageChops.subtract(thing.mask, ImageChops.offset(light, 2, 2))
        sheet.paste(Image.new("RGB", desk.size, (255, 250, 240)), mask=scaled(rim, 0.3))
        desk.paste(sheet, mask=thing.mask)
    photo = vignette(seen_aslant(size, desk), 0.22)
    photo = photo.filter(ImageFilter.GaussianBlur(0.7))
    moved = [
        Thing(thing.colour, thing.kind, seen_aslant(size, thing.mask))
        for thing in things
    ]
    return picture(np.asarray(photo) + noise(size, 1, 2.5, 11)), moved


def seen_aslant(size: int, image: Image.Image) -> Image.Image:
    """Look at a table from slightly below: a mild perspective."""
    tilt = 0.08 / size
    terms = (0.95, 0.04, 0.02 * size, 0.0, 1.02, 0.02 * size, 0.0, tilt)
    return image.transform(
        (size, size), Image.Transform.PERSPECTIVE, terms, Image.Resampling.BICUBIC
    )


def chalkboard() -> tuple[Image.Image, list[Thing]]:
    """Chalk on a school's blackboard."""
    size = 560
    things = [
        shape(size, "yellow", "star", 0.2, 0.3, 0.15, 5),
        shape(size, "red", "square", 0.5, 0.68, 0.16, -7),
        number(size, "yellow", "48", 0.77, 0.36, 0.27, "DejaVuSans-Bold.ttf"),
    ]
    board = ground(size, (34, 52, 44), noise(size, 120, 7, 1), noise(size, 30, 3, 2))
    dyes = {"yellow": (246, 226, 84), "red": (232, 62, 58)}
    grain = 215 + noise(size, 1.5, 42, 3) + noise(size, 6, 18, 4)
    chalk = picture(np.repeat(grain, 3, -1)).convert("L")
    return filled(board, things, dyes, lambda _: chalk), things


def crayon() -> tuple[Image.Image, list[Thing]]:
    """Wax crayon: shapes filled with many slanted strokes."""
    size = 600
    things = [
        shape(size, "green", "triangle", 0.2, 0.62, 0.18, 4),
        shape(size, "purple", "circle", 0.5, 0.28, 0.15),
        shape(size, "red", "star", 0.8, 0.66, 0.18, -9),
    ]
    rng = np.random.default_rng(5)
    strokes = Image.new("L", (size, size), 120)
    pen = ImageDraw.Draw(strokes)
    for start in range(-size, size, 7):
        jitter = rng.integers(-4, 5, 3).tolist()
        ends = (start + jitter[0], size + jitter[1], start + size + jitter[2], 0)
        pen.line(ends, fill=int(rng.integers(190, 256)), width=6)
    sheet = ground(size, (250, 247, 240), noise(size, 3, 3, 1))
    dyes = {"green": (30, 150, 50), "purple": (130, 30, 160), "red": (214, 30, 30)}
    return filled(sheet, things, dyes, lambda _: strokes), things


def watercolour() -> tuple[Image.Image, list[Thing]]:
    """Watercolour: uneven washes that pool at their edges."""
    size = 600
    things = [
        shape(size, "blue", "circle", 0.22, 0.66, 0.16),
        shape(size, "red", "square", 0.52, 0.3, 0.17, 6),
        shape(size, "green", "circle", 0.8, 0.68, 0.13),
    ]
    sheet = ground(size, (247, 244, 236), noise(size, 2, 4, 1), noise(size, 12, 3, 2))
    wash = picture(np.repeat(205 + noise(size, 45, 24, 3), 3, -1)).convert("L")
    dyes = {"blue": (26, 70, 178), "red": (204, 32, 40), "green": (24, 132, 52)}

    def pooled(thing: Thing) -> Image.Image:
        inner = thing.mask.filter(ImageFilter.GaussianBlur(9))
        edge = ImageChops.subtract(thing.mask, inner)
        return ImageChops.add(wash, edge.filter(ImageFilter.GaussianBlur(2)))

    return filled(sheet, things, dyes, pooled), things


def neon() -> tuple[Image.Image, list[Thing]]:
    """Lamps that glow in the dark."""
    size = 512
    things = [
        shape(size, "green", "star", 0.24, 0.34, 0.17),
        shape(size, "yellow", "circle", 0.55, 0.7, 0.13),
        shape(size, "red", "triangle", 0.79, 0.33, 0.16, 180),
    ]
    night = ground(size, (14, 14, 26), noise(size, 80, 4, 1))
    dyes = {"green": (40, 220, 60), "yellow": (255, 230, 40), "red": (255, 44, 44)}
    for thing in things:
        halo = scaled(thing.mask.filter(ImageFilter.GaussianBlur(16)), 0.35)
        night.paste(Image.new("RGB", night.size, dyes[thing.colour]), mask=halo)
    lit = filled(night, things, dyes, lambda thing: scaled(thing.mask, 1.0))
    return lit, things
