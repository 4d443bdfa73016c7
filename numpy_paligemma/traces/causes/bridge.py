"""Mistakes where text is embedded and picture and text become one sequence."""

from dataclasses import replace
from functools import partial

import numpy as np

from numpy_paligemma.arrays.formats import round_to_bfloat16, widen_bfloat16
from numpy_paligemma.model.fusion import fuse
from numpy_paligemma.traces.causes.variant import Here, Setup, Variant

EMBED, FUSED = "decoder/embed", "fusion/out"


def _width(here: Here) -> int:
    return here.setup.c.text.width


def _ids(setup: Setup) -> np.ndarray:
    if setup.ids is None:
        msg = "no ids"
        raise KeyError(msg)
    return setup.ids


def _times(power: float, here: Here, x: np.ndarray) -> np.ndarray:
    return x * _width(here) ** power


def rounded_root(width: int) -> float:
    """Round √D to bfloat16."""
    return float(widen_bfloat16(round_to_bfloat16(np.array([width**0.5])))[0])


def _rounded_scale(here: Here, x: np.ndarray) -> np.ndarray:
    return x * (rounded_root(_width(here)) / _width(here) ** 0.5)


def _next_ids(by: int, setup: Setup) -> Setup:
    return replace(setup, ids=np.roll(_ids(setup), by, axis=1))


def _parts(here: Here) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Take soft tokens, text and where the picture goes."""
    is_image = _ids(here.setup) == here.setup.c.image_token_id
    return here.seen["projector/out"], here.seen[EMBED], is_image


def _soft_times(power: float, here: Here, _: np.ndarray) -> np.ndarray:
    soft, text, is_image = _parts(here)
    return fuse(soft * _width(here) ** power, text, is_image)


def _text_times(power: float, here: Here, _: np.ndarray) -> np.ndarray:
    soft, text, is_image = _parts(here)
    return fuse(soft, text * _width(here) ** power, is_image)


def _all_times(power: float, here: Here, x: np.ndarray) -> np.ndarray:
    return x * _width(here) ** power


def _first_for_all(here: Here, _: np.ndarray) -> np.ndarray:
    soft, text, is_image = _parts(here)
    return fuse(np.broadcast_to(soft[:1], soft.shape), text, is_image)


def _pictures_rolled(here: Here, _: np.ndarray) -> np.ndarray:
    soft, text, is_image = _parts(here)
    return fuse(soft[::-1], text, is_image)


def _in_front(here: Here, _: np.ndarray) -> np.ndarray:
    """Put the picture at the first places, padding or not."""
    soft, text, is_image = _parts(here)
    n = is_image.sum(axis=1)
    front = np.arange(is_image.shape[1]) < n[:, None]
    return fuse(soft, text, front)


def _text_alone(here: Here, _: np.ndarray) -> np.ndarray:
    return _parts(here)[1]


def _added(here: Here, _: np.ndarray) -> np.ndarray:
    """Add soft tokens to what stood at their places."""
    soft, text, is_image = _parts(here)
    return fuse(soft, text * 0, is_image) + text


def _by_column(here: Here, _: np.ndarray) -> np.ndarray:
    soft, text, is_image = _parts(here)
    n, P, D = soft.shape
    side = int(P**0.5)
    if side * side != P:
        return text * np.nan
    turned = soft.reshape(n, side, side, D).swapaxes(1, 2).reshape(n, P, D)
    return fuse(turned, text, is_image)


def _backwards(here: Here, _: np.ndarray) -> np.ndarray:
    soft, text, is_image = _parts(here)
    return fuse(soft[:, ::-1], text, is_image)


BRIDGE = (
    Variant(
        "text scale left out",
        "text embeddings are not multiplied by √D",
        EMBED,
        swap=partial(_times, -0.5),
    ),
    Variant(
        "text scale applied twice",
        "text embeddings are multiplied by √D twice",
        EMBED,
        swap=partial(_times, 0.5),
    ),
    Variant(
        "text scale rounded",
        "√D is rounded to bfloat16 before it multiplies text embeddings",
        EMBED,
        swap=_rounded_scale,
    ),
    Variant(
        "token ids shifted", "ids are one place late", EMBED, partial(_next_ids, 1)
    ),
    Variant(
        "token ids shifted", "ids are one place early", EMBED, partial(_next_ids, -1)
    ),
    Variant(
        "picture scaled",
        "soft tokens are divided by √D: the picture's scale is applied where none is due",
        FUSED,
        swap=partial(_soft_times, -0.5),
    ),
    Variant(
        "picture scaled",
        "soft tokens are multiplied by √D, which is due to text alone",
        FUSED,
        swap=partial(_soft_times, 0.5),
    ),
    Variant(
        "picture and text scaled",
        "picture and text are multiplied by √D once more",
        FUSED,
        swap=partial(_all_times, 0.5),
    ),
    Variant(
        "picture and text scaled",
        "picture and text are divided by √D",
        FUSED,
        swap=partial(_all_times, -0.5),
    ),
    Variant(
        "text scale applied twice",
        "text is multiplied by √D once more",
        FUSED,
        swap=partial(_text_times, 0.5),
    ),
    Variant(
        "text scale left out",
        "text loses its √D",
        FUSED,
        swap=partial(_text_times, -0.5),
    ),
    Variant(
        "first picture for all",
        "every prompt gets the first picture of the batch",
        FUSED,
        swap=_first_for_all,
    ),
    Variant(
        "pictures in another order",
        "the batch's pictures are in the other order",
        FUSED,
        swap=_pictures_rolled,
    ),
    Variant(
        "picture in front of padding",
        "soft tokens stand at the first places, before or in the padding",
        FUSED,
        swap=_in_front,
    ),
    Variant(
        "picture left out",
        "the picture is not put into the sequence",
        FUSED,
        swap=_text_alone,
    ),
    Variant(
        "picture added to text",
        "soft tokens are added to the embedding of <image>, not put in its place",
        FUSED,
        swap=_added,
    ),
    Variant(
        "patches by column",
        "soft tokens stand column by column",
        FUSED,
        swap=_by_column,
    ),
    Variant(
        "picture backwards",
        "soft tokens stand in the opposite order",
        FUSED,
        swap=_backwards,
    ),
)
