"""What the notebooks draw with: one style, three colours, and a few pictures.

The colours have fixed roles all through the series: blue is what belongs to the eye
(SigLIP), amber what joins eye and language (projector, soft tokens, the sequence that
holds both), magenta what belongs to language (Gemma). Functions take arrays and axes;
`show` puts a figure into the notebook with its caption and its words for those who
cannot see it.
"""

import ast
import base64
import inspect
import math
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown, display
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

VISION, BRIDGE, LANGUAGE = "#2a78b5", "#e69f00", "#a63d7a"
INK, QUIET = "#222222", "#8c8c8c"
WIDTH = 8.6  # inches; at 100 dots each as wide as a notebook on GitHub

plt.rcParams.update(
    {
        "axes.edgecolor": QUIET,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": 10,
        "figure.dpi": 100,
        "figure.figsize": (WIDTH, 3.2),
        "figure.constrained_layout.use": True,
        "font.size": 9.5,
        **dict.fromkeys(("text.color", "axes.labelcolor"), INK),
        **dict.fromkeys(("xtick.color", "ytick.color"), INK),
    }
)


def show(figure: Figure, caption: str, alt: str) -> None:
    """Put a figure into the notebook: the picture, its words, a sentence below it.

    Parameters
    ----------
    caption : str
        A full sentence: what to see in it.
    alt : str
        The same for those who cannot see it; also the output's plain text.
    """
    file = BytesIO()
    figure.savefig(file, format="png", dpi=100)
    plt.close(figure)
    small = BytesIO()  # 256 colours do, and keep the repository light
    full = Image.open(file).convert("RGB")
    full.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3).save(small, "PNG")
    png = base64.b64encode(small.getvalue()).decode()
    words = {"image/png": {"alt": alt}}
    display({"image/png": png, "text/plain": alt}, raw=True, metadata=words)
    display(Markdown(f"*{caption}*"))


def bare(axes: Axes, title: str = "") -> Axes:
    """Take the frame and the ticks away, for axes that hold a picture."""
    axes.set(xticks=[], yticks=[], title=title)
    axes.spines[:].set_visible(False)
    return axes


def picture_with_grid(axes: Axes, picture: np.ndarray, grid: int) -> None:
    """Draw a picture (S, S, 3) and the lines along which it is cut, numbered."""
    side = picture.shape[0]
    axes.imshow(picture, extent=(0, grid, grid, 0), interpolation="nearest")
    axes.hlines(range(grid + 1), 0, grid, color=VISION, linewidth=0.7)
    axes.vlines(range(grid + 1), 0, grid, color=VISION, linewidth=0.7)
    axes.set(xlabel=f"pixel column (one patch is {side // grid})", ylabel="pixel row")
    ticks = range(0, grid + 1, 2)
    labels = [str(t * side // grid) for t in ticks]
    axes.set_xticks(ticks, labels)
    axes.set_yticks(ticks, labels)


def patch_wall(axes: Axes, tiles: np.ndarray, grid: int, gap: int = 5) -> None:
    """Lay patches (P, patch, patch, 3) out apart, each with its number."""
    patch = tiles.shape[1]
    step = patch + gap
    wall = np.ones((grid * step, grid * step, 3))
    for p, tile in enumerate(tiles):
        y, x = np.array(divmod(p, grid)) * step
        wall[y : y + patch, x : x + patch] = tile
        axes.text(x + patch / 2, y + patch - 0.3, str(p), size=6, ha="center", va="top")
    axes.imshow(wall, interpolation="nearest")
    bare(axes)


def attention_over_picture(
    axes: Axes, picture: np.ndarray, weights: np.ndarray, title: str = ""
) -> None:
    """Light a picture (S, S, 3) by the attention (grid, grid) that its patches get.

    The patch that gets most is as bright as the picture, one that gets none is dark.
    """
    patch = picture.shape[0] // weights.shape[0]
    light = np.kron(weights / weights.max(), np.ones((patch, patch)))  # (S, S)
    axes.imshow(picture * (0.2 + 0.8 * light[..., None]), interpolation="nearest")
    bare(axes, title)


def bars(
    axes: Axes,
    names: Sequence[str],
    values: Sequence[float] | np.ndarray,
    colours: Sequence[Any],
    labels: Sequence[str],
    start: float = 0,
) -> None:
    """Draw horizontal bars from `start`, the first on top, a number at each end."""
    lengths = np.asarray(values) - start
    rows = axes.barh(range(len(names)), lengths, left=start, color=colours, height=0.72)
    axes.bar_label(rows, labels, padding=3, size=8.5)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)


def distribution(
    axes: Axes, pieces: Sequence[str], probs: np.ndarray, top: int = 8, title: str = ""
) -> None:
    """Draw the likeliest tokens of a distribution (V,), on a logarithmic axis."""
    order = np.argsort(-probs, kind="stable")[:top]
    values = probs[order].astype(np.float64)
    colours = [LANGUAGE] + [to_rgba(LANGUAGE, 0.35)] * (top - 1)
    floor = 10 ** np.floor(np.log10(values.min()))
    names = [repr(pieces[i]) for i in order]
    bars(axes, names, values, colours, [_short(v) for v in values], start=floor)
    axes.set(
        xscale="log", xlim=(floor, floor**-0.35), xlabel="probability", title=title
    )
    axes.set_xticks(10.0 ** np.arange(0, np.log10(floor) - 1, -2))
    axes.minorticks_off()


def _short(probability: float) -> str:
    """Write a probability so that none but 1 reads as 1, and none but 0 as 0."""
    if probability < 1e-3:
        return f"{probability:.0e}"
    return f"{probability:.{3 if probability < 0.9995 else 6}f}"


def prefix_mask(axes: Axes, mask: np.ndarray, names: Sequence[str], soft: int) -> None:
    """Draw who may see whom, (T, T) query by key, the first `soft` being picture.

    Amber for the picture's keys, pale magenta for the prompt's, magenta for the answer's.
    """
    T = len(names)
    answer = int(np.argmin(mask[0])) if not mask[0].all() else T
    pale = to_rgba(LANGUAGE, 0.45)
    roles = [BRIDGE] * soft + [pale] * (answer - soft) + [LANGUAGE] * (T - answer)
    for query, key in np.ndindex(T, T):
        colour = roles[key] if mask[query, key] else "#f0f0f0"
        axes.add_patch(Rectangle((key, query), 0.92, 0.92, color=colour, lw=0))
    centres = np.arange(T) + 0.46
    axes.set_xticks(centres, names, rotation=90)
    axes.set_yticks(centres, names)
    axes.set(xlim=(0, T), xlabel="is it seen?  (key)", aspect="equal")
    axes.set(ylim=(T, 0), ylabel="who looks?  (query)")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def source(thing: Callable[..., Any]) -> None:
    """Show how the package has it: code as it stands, of the docstring the first line."""
    lines = inspect.getsourcelines(thing)[0]
    tree = ast.parse("".join(lines)).body[0]
    body = tree.body[0]  # type: ignore[attr-defined]
    head = (ast.get_docstring(tree) or "").split("\n")[0]  # type: ignore[arg-type]
    quoted = f'{" " * body.col_offset}"""{head}"""\n'
    code = "".join([*lines[: body.lineno - 1], quoted, *lines[body.end_lineno :]])
    file = f"{thing.__module__.replace('.', '/')}.py"
    link = f"[`{file}`](../{file})"
    display(Markdown(f"{link}\n\n```python\n{code.rstrip()}\n```"))


def words_on_patches(
    axes: Axes, picture: np.ndarray, words: Sequence[str], weights: np.ndarray
) -> None:
    """Lay one word over each patch of a picture, the bolder the larger its weight (P,)."""
    grid = math.isqrt(len(words))
    axes.imshow(picture, extent=(0, grid, grid, 0), alpha=0.35)
    for p, (word, weight) in enumerate(zip(words, weights, strict=True)):
        y, x = divmod(p, grid)
        bold = "bold" if weight > 0.5 else "normal"
        place, ink = (x + 0.5, y + 0.5), to_rgba(INK, min(1, 0.4 + 1.2 * weight))
        axes.text(
            *place, word, size=6.5, ha="center", va="center", color=ink, weight=bold
        )
    bare(axes)
