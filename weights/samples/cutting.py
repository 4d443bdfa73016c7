"""The means of the sample pictures: shapes as masks, noise, and laying on colour."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFont

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
