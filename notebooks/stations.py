"""Draw the line as a picture: stations in two rows, each from its real array."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path
from plotting import QUIET, WIDTH


class Station(NamedTuple):
    """One stop on the line: what it is, its array, whose it is, words to show."""

    name: str
    array: np.ndarray
    role: str
    words: str = ""


def pipeline(above: Sequence[Station], below: Sequence[Station]) -> Figure:
    """Draw the line: two rows of stations, the first feeding the second's second.

    The last station below goes round again to the second, as a new token does.
    """
    height = 4.3  # inches; all else is in parts of the figure
    figure = plt.figure(figsize=(WIDTH, height), layout="none")
    step = 1 / max(len(above), len(below))
    wide = 0.64 * step
    tall = wide * WIDTH / height
    for row, bottom in ((above, 0.62), (below, 0.17)):
        y = bottom + tall / 2
        for i, station in enumerate(row):
            left = i * step
            box = (left + 0.18 * step, bottom, wide, tall)
            _draw_station(figure.add_axes(box), station)
            if i:
                _arrow(figure, (left - 0.15 * step, y), (left + 0.15 * step, y))
    feed, into, last = ((n - 0.5) * step for n in (len(above), 2, len(below)))
    _arrow(figure, (feed, 0.555), (feed, 0.545), (into, 0.545), (into, 0.5))
    _arrow(figure, (last, 0.1), (last, 0.04), (into, 0.04), (into, 0.1))
    note = "every new token joins the sequence and goes through Gemma in its turn"
    figure.text((into + last) / 2, 0.055, note, ha="center", size=8.5, color=QUIET)
    return figure


def _draw_station(axes: Axes, station: Station) -> None:
    """Draw one array, or words in its place, framed in its role's colour."""
    if station.words:
        axes.text(0.5, 0.5, station.words, ha="center", va="center", size=10.5)
    else:
        drawing = _drawing(station.array, station.role)
        axes.imshow(drawing, aspect="auto", interpolation="nearest")
    axes.set(xticks=[], yticks=[], xlabel=str(station.array.shape))
    axes.set_title(station.name, color=station.role, weight="bold")
    axes.spines[:].set(visible=True, color=station.role, linewidth=1.5)


def _drawing(x: np.ndarray, role: str) -> np.ndarray:
    """Turn an array into a picture: a photo as it is, numbers in the role's colour."""
    if x.dtype == np.uint8:
        return x
    if x.ndim == 4:
        return x[0].transpose(1, 2, 0) / 2 + 0.5
    side = math.isqrt(x.shape[-1])
    sheet = x[0] if x.ndim == 3 else x[0, : side * side].reshape(side, side)
    low, high = np.percentile(sheet, [2, 98])
    depth = np.clip((sheet - low) / (high - low), 0, 1)[..., None]
    return 1 - depth * (1 - np.array(to_rgb(role)))


def _arrow(figure: Figure, *points: tuple[float, float]) -> None:
    """Lay an arrow through points, in parts of the figure's width and height."""
    arrow = FancyArrowPatch(
        path=Path(points), arrowstyle="-|>", mutation_scale=11, color=QUIET
    )
    arrow.set_transform(figure.transFigure)
    figure.add_artist(arrow)
