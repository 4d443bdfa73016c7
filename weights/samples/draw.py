"""Draw the ten sample pictures and write down the true answers.

``python weights/samples/draw.py``. None of this code draws training pictures: shapes
are filled as paper, chalk, crayon, paint, light or pixels, by Pillow or matplotlib.
"""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

HERE = Path(__file__).parent
FONTS = Path(mpl.get_data_path()) / "fonts" / "ttf"
RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Thing:
    """An object of a picture and where its ink is."""

    colour: str
    kind: str
    mask: Image.Image  # "L"
    digits: str = ""

    @property
    def box(self) -> tuple[int, ...]:
        """Return left, top, right, bottom in pixels."""
        return self.mask.point(lambda level: 255 * (level > 127)).getbbox() or ()


def points(kind: str, x: float, y: float, radius: float, turn: float = 0) -> np.ndarray:
    """Return the outline of a shape: (corners, 2)."""
    corners = {"circle": 120, "square": 4, "triangle": 3, "star": 10}[kind]
    first = turn - 90 + (45 if kind == "square" else 0)
    angles = np.radians(first + 360 * np.arange(corners) / corners)
    reach = np.full(corners, radius)
    if kind == "star":
        reach[1::2] *= 0.45
    return np.stack([x + reach * np.cos(angles), y + reach * np.sin(angles)], 1)


def shape(
    size: int,
    colour: str,
    kind: str,
    x: float,
    y: float,
    radius: float,
    turn: float = 0,
) -> Thing:
    """Cut a shape out, at places given as shares of the picture's side."""
    outline = points(kind, x * size, y * size, radius * size, turn)
    large = Image.new("L", (3 * size, 3 * size))
    ImageDraw.Draw(large).polygon(
        [tuple(xy) for xy in (3 * outline).tolist()], fill=255
    )
    return Thing(colour, kind, large.resize((size, size), Image.Resampling.LANCZOS))


def number(
    size: int, colour: str, digits: str, x: float, y: float, height: float, face: str
) -> Thing:
    """Write a number, centred at a place."""
    font = ImageFont.truetype(str(FONTS / face), height * size)
    mask = Image.new("L", (size, size))
    at = (x * size, y * size)
    ImageDraw.Draw(mask).text(at, digits, fill=255, font=font, anchor="mm")
    return Thing(colour, "number", mask, digits)


def noise(size: int, grain: float, strength: float, seed: int) -> np.ndarray:
    """Make smooth noise with a grain of so many pixels: (size, size, 1)."""
    rng = np.random.default_rng(seed)
    small = rng.standard_normal((max(2, round(size / grain)),) * 2).astype(np.float32)
    large = Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(large)[..., None] * strength


def ground(size: int, rgb: RGB, *layers: np.ndarray) -> Image.Image:
    """Fill a picture with a colour and layers of noise."""
    return picture(np.array(rgb, np.float32) + sum(layers, np.zeros((size, size, 1))))


def picture(values: np.ndarray) -> Image.Image:
    """Turn an array, (height, width, 3), into a picture."""
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def vignette(image: Image.Image, strength: float) -> Image.Image:
    """Darken towards the corners."""
    ramp = np.linspace(-1, 1, image.width)
    falloff = 1 - strength * (ramp[None] ** 2 + ramp[:, None] ** 2) / 2
    return picture(np.asarray(image) * falloff[..., None])


def seen_aslant(size: int, image: Image.Image) -> Image.Image:
    """Look at a table from slightly below: a mild perspective."""
    tilt = 0.08 / size
    terms = (0.95, 0.04, 0.02 * size, 0.0, 1.02, 0.02 * size, 0.0, tilt)
    return image.transform(
        (size, size), Image.Transform.PERSPECTIVE, terms, Image.Resampling.BICUBIC
    )


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


def scaled(mask: Image.Image, share: float) -> Image.Image:
    """Thin a mask out."""
    return mask.point(lambda level: level * share)


def filled(
    canvas: Image.Image,
    things: list[Thing],
    dyes: dict[str, RGB],
    texture: Callable[[Thing], Image.Image],
) -> Image.Image:
    """Lay each thing's colour over the canvas through a textured mask."""
    for thing in things:
        ink = Image.new("RGB", canvas.size, dyes[thing.colour])
        canvas.paste(ink, mask=ImageChops.multiply(thing.mask, texture(thing)))
    return canvas


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


SAMPLES = {
    "paper.jpg": (paper, 90),
    "chalkboard.jpg": (chalkboard, 85),
    "crayon.jpg": (crayon, 85),
    "watercolour.jpg": (watercolour, 85),
    "neon.jpg": (neon, 88),
    "pixels.png": (pixels, 0),
    "vector.png": (vector, 0),
    "plate.jpg": (plate, 85),
    "stickers.jpg": (stickers, 85),
    "poster.jpg": (poster, 30),
}


def answers(things: list[Thing]) -> dict[str, object]:
    """State what is true of a picture: texts, and boxes in its pixels."""
    names = [f"a {thing.colour} {thing.kind}" for thing in things]
    shapes = [thing for thing in things if thing.kind != "number"]
    alone = next(
        thing for thing in things if sum(t.kind == thing.kind for t in things) == 1
    )
    texts = {
        "caption en": f"{', '.join(names[:-1])} and {names[-1]}",
        "answer en how many shapes are there?": str(len(shapes)),
        f"answer en what colour is the {alone.kind}?": alone.colour,
    }
    if digits := "".join(thing.digits for thing in things):
        texts["ocr"] = digits
    boxes: dict[str, list[tuple[int, ...]]] = {}
    for thing in things:
        prompt = f"detect {thing.colour} {thing.kind}"
        boxes.setdefault(prompt, []).append(thing.box)
    return {"texts": texts, "boxes": boxes}


def main() -> None:
    """Draw all pictures and write `answers.json`."""
    truth = {}
    for name, (draw, quality) in SAMPLES.items():
        image, things = draw()
        options = {"quality": quality} if quality else {"optimize": True}
        image.save(HERE / name, **options)
        truth[name] = {"size": image.size, **answers(things)}
    text = json.dumps(truth, indent=1, ensure_ascii=False)
    (HERE / "answers.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
