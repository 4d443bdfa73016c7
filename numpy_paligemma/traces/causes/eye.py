"""Mistakes before and behind the eye's blocks."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from numpy_paligemma.model.fusion import project
from numpy_paligemma.model.layers import layer_norm, linear
from numpy_paligemma.model.siglip import cut_patches
from numpy_paligemma.traces.causes.variant import Here, Setup, Variant
from numpy_paligemma.traces.evidence.pixel_causes import CLIP, IMAGENET, RANGES

EMBED = "vision/embed"


def _pixels(setup: Setup) -> np.ndarray:
    if setup.pixels is None:
        msg = "no pixels"
        raise KeyError(msg)
    return setup.pixels


def _embedded(patches: np.ndarray, here: Here) -> np.ndarray:
    w = here.setup.w.vision
    return linear(patches, *w.patch_embed) + w.position_embed


def _cut(here: Here) -> np.ndarray:
    return cut_patches(_pixels(here.setup), here.setup.c.vision.patch_size)


def _reordered(axes: tuple[int, int, int], here: Here, _: np.ndarray) -> np.ndarray:
    """Flatten patches in another order than channel, row, column."""
    patches, side = _cut(here), here.setup.c.vision.patch_size
    B, P, _size = patches.shape
    tiles = patches.reshape(B, P, -1, side, side)
    tiles = tiles.transpose(0, 1, *(2 + axis for axis in axes))
    return _embedded(tiles.reshape(patches.shape), here)


def _by_column(x: np.ndarray) -> np.ndarray:
    """Read the grid of patches column by column."""
    B, P, size = x.shape
    side = math.isqrt(P)
    if side * side != P:
        return x
    return x.reshape(B, side, side, size).swapaxes(1, 2).reshape(B, P, size)


def _columns(here: Here, _: np.ndarray) -> np.ndarray:
    return _embedded(_by_column(_cut(here)), here)


def _table(change: Callable[[np.ndarray], np.ndarray], setup: Setup) -> Setup:
    """Change the table of positions."""
    w = setup.w.vision
    changed = replace(w, position_embed=change(w.position_embed))
    return replace(setup, w=replace(setup.w, vision=changed))


def _nought(x: np.ndarray) -> np.ndarray:
    return x * 0


def _rolled(by: int, x: np.ndarray) -> np.ndarray:
    return np.roll(x, by, axis=0)


def _twice(x: np.ndarray) -> np.ndarray:
    return x * 2


def _table_by_column(x: np.ndarray) -> np.ndarray:
    return _by_column(x[None])[0]


def _colours(setup: Setup) -> Setup:
    return replace(setup, pixels=_pixels(setup)[:, ::-1])


def _levels(times: np.ndarray, more: np.ndarray, setup: Setup) -> Setup:
    return replace(setup, pixels=_pixels(setup) * times + more)


def _other_levels() -> list[Variant]:
    """List other ranges of levels, for traces that show no pixels."""
    listed = [
        Variant(
            cause.partition(",")[0],
            text,
            EMBED,
            partial(_levels, np.array(times), np.array(more)),
        )
        for cause, ((times, more), text) in RANGES.items()
    ]
    for name, (mean, std) in {"ImageNet": IMAGENET, "CLIP": CLIP}.items():
        m, s = (np.array(x).reshape(3, 1, 1) for x in (mean, std))
        text = f"levels have the mean and standard deviation of {name}"
        change = partial(_levels, 0.5 / s, (0.5 - m) / s)
        listed.append(Variant("mean and std", text, EMBED, change))
    return listed


def _mirrored(axis: int, setup: Setup) -> Setup:
    return replace(setup, pixels=np.flip(_pixels(setup), axis))


def _picture_turned(setup: Setup) -> Setup:
    return replace(setup, pixels=_pixels(setup).swapaxes(2, 3))


def _no_bias(here: Here, _: np.ndarray) -> np.ndarray:
    w = here.setup.w.vision
    return linear(_cut(here), w.patch_embed.weight) + w.position_embed


def _scaled(here: Here, _: np.ndarray) -> np.ndarray:
    """Scale patches by √D before their positions come."""
    w, D = here.setup.w.vision, here.setup.c.vision.width
    return linear(_cut(here), *w.patch_embed) * D**0.5 + w.position_embed


def _earlier(back: int, here: Here) -> np.ndarray:
    """Take the stream behind an earlier block."""
    return here.seen[here.came_from(here.setup.c.vision.depth - back)]


def _last_but_one(here: Here, _: np.ndarray) -> np.ndarray:
    w, c = here.setup.w.vision, here.setup.c.vision
    return layer_norm(_earlier(1, here), *w.final_norm, c.norm_eps)


def _last_but_one_unnormed(here: Here, _: np.ndarray) -> np.ndarray:
    return _earlier(1, here)


def _projected(
    of: Callable[[Here, np.ndarray], np.ndarray], here: Here, x: np.ndarray
) -> np.ndarray:
    return project(of(here, x), here.setup.w.projector)


def _unnormed(here: Here, _: np.ndarray) -> np.ndarray:
    return _earlier(0, here)


def _projector_bias(here: Here, _: np.ndarray) -> np.ndarray:
    return linear(here.seen["vision/out"], here.setup.w.projector.weight)


def _projected_scale(power: float, here: Here, x: np.ndarray) -> np.ndarray:
    return x * here.setup.c.text.width**power


ORDERS = {
    "row, column, channel": (1, 2, 0),
    "channel, column, row": (0, 2, 1),
    "column, row, channel": (2, 1, 0),
    "row, channel, column": (1, 0, 2),
}
LEFT_OUT = "the features are those of the last block but one"
SHIFTED = "the table of positions is shifted by one place, as by a class token"
EYE = (
    *_other_levels(),
    *(
        Variant(
            "patch order",
            f"patches are flattened in the order {told} where channel, row, column is due",
            EMBED,
            swap=partial(_reordered, axes),
        )
        for told, axes in ORDERS.items()
    ),
    Variant(
        "patches by column",
        "patches are read column by column: x and y are exchanged",
        EMBED,
        swap=_columns,
    ),
    Variant(
        "patches by column",
        "the table of positions is read column by column",
        EMBED,
        partial(_table, _table_by_column),
    ),
    Variant(
        "patches by column",
        "the picture is turned: x and y are exchanged",
        EMBED,
        _picture_turned,
    ),
    Variant(
        "position table left out",
        "the table of positions is left out",
        EMBED,
        partial(_table, _nought),
    ),
    Variant(
        "position table shifted", SHIFTED, EMBED, partial(_table, partial(_rolled, -1))
    ),
    Variant(
        "position table shifted", SHIFTED, EMBED, partial(_table, partial(_rolled, 1))
    ),
    Variant(
        "position table added twice",
        "the table of positions is added twice",
        EMBED,
        partial(_table, _twice),
    ),
    Variant(
        "channel order", "channels are blue, green, red: BGR for RGB", EMBED, _colours
    ),
    Variant(
        "picture mirrored", "the picture is mirrored", EMBED, partial(_mirrored, 3)
    ),
    Variant(
        "picture mirrored", "the picture is upside down", EMBED, partial(_mirrored, 2)
    ),
    Variant(
        "bias dropped", "the patch embedding's bias is left out", EMBED, swap=_no_bias
    ),
    Variant(
        "patches scaled", "patches are scaled by √D, as text is", EMBED, swap=_scaled
    ),
    Variant("last block but one", LEFT_OUT, "vision/out", swap=_last_but_one),
    Variant(
        "last block but one",
        f"{LEFT_OUT}, not normed",
        "vision/out",
        swap=_last_but_one_unnormed,
    ),
    Variant(
        "last block but one",
        LEFT_OUT,
        "projector/out",
        swap=partial(_projected, _last_but_one),
    ),
    Variant(
        "last block but one",
        f"{LEFT_OUT}, not normed",
        "projector/out",
        swap=partial(_projected, _last_but_one_unnormed),
    ),
    Variant(
        "norm left out",
        "the eye's last norm is left out before the projector",
        "projector/out",
        swap=partial(_projected, _unnormed),
    ),
    Variant(
        "bias dropped",
        "the projector's bias is left out",
        "projector/out",
        swap=_projector_bias,
    ),
    Variant(
        "picture scaled",
        "soft tokens are divided by √D",
        "projector/out",
        swap=partial(_projected_scale, -0.5),
    ),
    Variant(
        "picture scaled",
        "soft tokens are multiplied by √D, as text is",
        "projector/out",
        swap=partial(_projected_scale, 0.5),
    ),
)
