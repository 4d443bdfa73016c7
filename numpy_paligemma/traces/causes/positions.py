"""Mistakes in where tokens stand: the positions that RoPE turns them by."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from numpy_paligemma.traces.causes.variant import Setup

SCALES = (0.125, 0.25, 0.5, 2.0, 4.0, 8.0)


def positions_of_pass(setup: Setup) -> np.ndarray:
    """Take the positions, (B, T); KeyError where they are not known."""
    if setup.positions is None:
        msg = "no mask, so no positions"
        raise KeyError(msg)
    return setup.positions


def moved(move: Callable[[Setup], np.ndarray | None], setup: Setup) -> Setup:
    """Count positions otherwise."""
    moved = move(setup)
    if moved is None:
        msg = "no positions to move"
        raise KeyError(msg)
    return replace(setup, positions=moved)


def _all_by(shift: int, setup: Setup) -> np.ndarray | None:
    return None if setup.is_step else positions_of_pass(setup) + shift


def _step_by(shift: int, setup: Setup) -> np.ndarray | None:
    return positions_of_pass(setup) + shift if setup.is_step else None


def _scaled(times: float, setup: Setup) -> np.ndarray:
    return positions_of_pass(setup) * times


def _padding_counted(start: int, setup: Setup) -> np.ndarray | None:
    """Count places, padding among them."""
    mask = setup.attention_mask
    if mask is None:
        return None
    T = positions_of_pass(setup).shape[1]
    return np.broadcast_to(
        np.arange(mask.shape[1])[-T:] + start, positions_of_pass(setup).shape
    )


def _text_from_one(start: int, setup: Setup) -> np.ndarray | None:
    """Count text from one again behind the picture."""
    if setup.ids is None or setup.ids.shape != positions_of_pass(setup).shape:
        return None
    is_image = setup.ids == setup.c.image_token_id
    counted = positions_of_pass(setup)
    last = np.max(np.where(is_image, counted, 0), axis=1, keepdims=True)
    return np.where(counted > last, counted - last - 1 + start, counted)


def _picture_at_one(setup: Setup) -> np.ndarray | None:
    """Give the whole picture the first position."""
    if setup.ids is None or setup.ids.shape != positions_of_pass(setup).shape:
        return None
    is_image = setup.ids == setup.c.image_token_id
    return np.where(is_image, 1, positions_of_pass(setup))


def _restarted(at: int, setup: Setup) -> np.ndarray | None:
    """Give a decode step the first position."""
    return np.full_like(positions_of_pass(setup), at) if setup.is_step else None


# of queries and keys alike both are harmless; of one of them, or of a decode step, not
START, PADDED = "positions from another start", "padding counted"
ALIKE = (START, PADDED)


MOVES: tuple[tuple[str, str, Callable[[Setup], np.ndarray | None]], ...] = (
    *(
        (START, f"positions are {shift:+} off", partial(_all_by, shift))
        for shift in (-1, 1, -2, 2)
    ),
    *(
        (
            "decode position off by one",
            f"the decode step's position is {shift:+} off: a shift by one step",
            partial(_step_by, shift),
        )
        for shift in (-1, 1)
    ),
    *(
        (
            "decode position",
            f"the decode step's position is {shift:+} off",
            partial(_step_by, shift),
        )
        for shift in (-3, -2, 2, 3)
    ),
    (
        PADDED,
        "positions count padding, too, from nought",
        partial(_padding_counted, 0),
    ),
    (
        PADDED,
        "positions count padding, too",
        partial(_padding_counted, 1),
    ),
    (
        "text positions restart",
        "the text's positions begin again behind the picture",
        partial(_text_from_one, 1),
    ),
    (
        "text positions restart",
        "the text's positions begin again behind the picture",
        partial(_text_from_one, 0),
    ),
    ("picture at one position", "all of the picture has one position", _picture_at_one),
    *(
        (
            "decode position restarts",
            f"the decode step's position is {at}, as if there were no prompt before it",
            partial(_restarted, at),
        )
        for at in (0, 1)
    ),
    *(
        (
            "RoPE base",
            f"positions are {times:g} times as large, as linear scaling of RoPE does",
            partial(_scaled, times),
        )
        for times in SCALES
    ),
)
