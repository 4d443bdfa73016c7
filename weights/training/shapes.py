"""The geometry of one object: outlines of polygons, distances to them, digits."""

import math
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

KINDS = ("circle", "square", "triangle", "star", "number")
NUMBER = KINDS.index("number")
FACES = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSansMono-Bold.ttf",
    "DejaVuSerif.ttf",
    "Pillow's own",
)

# circumradius over half the nominal diameter: makes the four kinds look equally large
CIRCUMRADIUS = {"square": 1.3, "triangle": 1.15, "star": 1.2}
STAR_WAIST = 0.45


def polygon(kind: str, diameter: float, turn: float, stretch: float) -> np.ndarray:
    """Return the corners of a square, triangle or star around the origin.

    Parameters
    ----------
    kind : str
    diameter : float
        Nominal: that of the circle that looks equally large.
    turn : float
        In radians, clockwise; at 0 squares lie flat, the others point up.
    stretch : float
        Factor on the width.

    Returns
    -------
    float32 array, (corners, 2), as x, y with y pointing down
    """
    corners = {"square": 4, "triangle": 3, "star": 10}[kind]
    first = -math.pi / 4 if kind == "square" else -math.pi / 2
    angles = first + turn + 2 * math.pi * np.arange(corners) / corners
    radius = np.full(corners, diameter / 2 * CIRCUMRADIUS[kind])
    if kind == "star":
        radius[1::2] *= STAR_WAIST
    points = np.stack([radius * np.cos(angles) * stretch, radius * np.sin(angles)], 1)
    return points.astype(np.float32)


def distance_to_polygon(
    corners: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Measure the signed distance to a polygon's edge, negative inside.

    Inside is where a ray to the right crosses an odd number of edges.

    Parameters
    ----------
    corners : float array, (corners, 2)
    x, y : float arrays, (width,) and (height,)

    Returns
    -------
    float array, (height, width)
    """
    ax, ay = corners.T
    ex, ey = (np.roll(corners, -1, axis=0) - corners).T
    px = x[None, :, None] - ax  # (1, width, corners)
    py = y[:, None, None] - ay  # (height, 1, corners)
    along = np.clip((px * ex + py * ey) / (ex * ex + ey * ey), 0, 1)
    squared = (px - along * ex) ** 2 + (py - along * ey) ** 2
    safe = np.where(ey == 0, 1, ey)
    crosses = ((py < 0) != (py < ey)) & (px < py * (ex / safe))
    inside = crosses.sum(-1) % 2 == 1
    return np.sqrt(squared.min(-1)) * np.where(inside, -1, 1)


def distance_to_ellipse(
    diameter: float, stretch: float, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Measure, nearly, the signed distance to a slightly stretched circle."""
    return (np.hypot(x[None] / stretch, y[:, None]) - diameter / 2) * min(stretch, 1)


def coverage(distance: np.ndarray, softness: float) -> np.ndarray:
    """Turn a signed distance into how much of a pixel is covered: ½ - d/s in [0, 1]."""
    return np.clip(0.5 - distance / softness, 0, 1)


@cache
def digit_mask(digit: str, face: str, height: int) -> np.ndarray:
    """Draw one digit, cropped to its ink, `height` pixels high: (height, width)."""
    size = 100
    if face == "Pillow's own":
        font = ImageFont.load_default(size)
    else:
        fonts = Path(mpl.get_data_path()) / "fonts" / "ttf"
        font = ImageFont.truetype(str(fonts / face), size)
    canvas = Image.new("L", (2 * size, 2 * size))
    ImageDraw.Draw(canvas).text((size // 2, size // 2), digit, fill=255, font=font)
    ink = canvas.crop(canvas.getbbox())
    width = max(2, round(ink.width * height / ink.height))
    small = ink.resize((width, height), Image.Resampling.BOX)
    return np.asarray(small, np.float32) / 255


def number_mask(
    digits: str, face: str, height: int, gap: int
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Write a number; return its mask, (height, width), and each digit's columns."""
    masks = [digit_mask(digit, face, height) for digit in digits]
    starts = np.cumsum([0] + [mask.shape[1] + gap for mask in masks])
    joined = np.zeros((height, int(starts[-1]) - gap), np.float32)
    columns = []
    for start, mask in zip(starts.tolist(), masks, strict=False):
        joined[:, start : start + mask.shape[1]] = mask
        columns.append((start, start + mask.shape[1]))
    return joined, columns
