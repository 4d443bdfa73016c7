"""The colours that have names, their shades, and how far two colours are apart."""

import colorsys

import numpy as np

COLOURS = ("red", "green", "blue", "yellow", "purple", "black")

# hue in degrees, saturation and value: CSS' pure colours lie inside
HSV = {
    "red": ((-8, 8), (0.75, 1), (0.75, 1)),
    "green": ((105, 145), (0.65, 1), (0.45, 0.9)),
    "blue": ((210, 242), (0.7, 1), (0.65, 1)),
    "yellow": ((50, 60), (0.75, 1), (0.88, 1)),
    "purple": ((275, 302), (0.6, 1), (0.42, 0.8)),
    "black": ((0, 360), (0, 0.3), (0, 0.15)),
}
CHANNEL_WEIGHTS = np.array([0.8, 1.3, 0.7])  # of a difference of colours


def contrast(a: np.ndarray, b: np.ndarray) -> float:
    """Weigh the difference of two colours roughly as an eye does."""
    return float(np.linalg.norm((a - b) * CHANNEL_WEIGHTS))


def draw_shade(rng: np.random.Generator, colour: int) -> tuple[float, float, float]:
    """Choose one of the shades that bear a colour's name."""
    (h0, h1), (s0, s1), (v0, v1) = HSV[COLOURS[colour]]
    hue, saturation, value = (
        rng.uniform(h0, h1),
        rng.uniform(s0, s1),
        rng.uniform(v0, v1),
    )
    r, g, b = colorsys.hsv_to_rgb(hue % 360 / 360, saturation, value)
    return r * 255, g * 255, b * 255
