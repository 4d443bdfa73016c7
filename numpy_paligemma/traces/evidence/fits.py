"""Numbers of a model fitted to what one side shows: scale, caps and window."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from numpy_paligemma.model.config import TextConfig
from numpy_paligemma.model.fusion import prefix_lm_mask

Given = Callable[[str], np.ndarray | None]
ROUNDS = 80  # of the search for a cap
FIT = 1e-3  # how well a cap must fit before its digits are rounded
DIGITS = 6
FAR = 1e4  # times the largest score: a cap beyond it bends nothing


def with_fits(
    c: TextConfig, given: Given, mask: np.ndarray | None, types: np.ndarray | None
) -> TextConfig:
    """Fill in what taps tell: the scale of scores and their cap, and the window."""
    scale, cap = _scores(given)
    window = _window(given("fusion/window_mask"), mask, types)
    return replace(
        c,
        query_scale=scale or c.query_scale,
        score_cap=cap,
        window=window,
        sliding_blocks=c.sliding_blocks if window else frozenset(),
    )


def _scores(given: Given) -> tuple[float | None, float | None]:
    """Fit scores = cap · tanh(scale · q·k / cap) to the first block."""
    q, k, y = (given(f"decoder/block00/attention/{n}") for n in ("q", "k", "scores"))
    if q is None or k is None or y is None or q.shape[1] % k.shape[1]:
        return None, None
    z = q @ np.repeat(k, q.shape[1] // k.shape[1], 1).swapaxes(-1, -2)
    if z.shape != y.shape:
        return None, None
    flat = float(np.sum(z * y) / np.sum(z * z))
    top = float(np.max(np.abs(y)))
    if np.max(np.abs(y - flat * z)) <= 1e-5 * top:
        return _neat_root(flat), None
    cap = fitted_cap(z, y)
    if cap is None:
        return None, None
    bent = np.arctanh(np.clip(y / cap, -1 + 1e-15, 1 - 1e-15)) * cap
    sure = np.abs(y) < 0.9 * cap
    scale = float(np.sum((bent * z)[sure]) / np.sum((z * z)[sure]))
    return _neat_root(scale), cap


def fitted_cap(z: np.ndarray, y: np.ndarray) -> float | None:
    """Find the cap in y = cap · tanh(s · z / cap), whatever s is; None where none fits."""
    top = float(np.max(np.abs(y)))
    low, high = math.log(top * (1 + 1e-9)), math.log(top * FAR)
    sure = np.abs(y) < 0.9 * top

    def off(log_cap: float) -> float:
        cap = math.exp(log_cap)
        bent = (np.arctanh(y / cap) * cap)[sure]
        s = np.sum(bent * z[sure]) / np.sum(z[sure] ** 2)
        return float(np.max(np.abs(y - cap * np.tanh(s * z / cap))))

    grid = np.linspace(low, high, 60)
    best = int(np.argmin([off(x) for x in grid]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    for _ in range(ROUNDS):
        a, b = low + (high - low) * 0.382, low + (high - low) * 0.618
        low, high = (low, b) if off(a) < off(b) else (a, high)
    return (
        neat(math.exp((low + high) / 2)) if off((low + high) / 2) <= FIT * top else None
    )


def neat(x: float) -> float:
    """Round to the digits that somebody would write in a config."""
    return float(f"{x:.{DIGITS}g}") if x else x


def _neat_root(scale: float) -> float:
    """Read a scale as one over the root of a neat number."""
    return neat(scale**-2) ** -0.5 if scale > 0 else scale


def _window(
    shown: np.ndarray | None, mask: np.ndarray | None, types: np.ndarray | None
) -> int | None:
    """Find the window that gives a mask."""
    if shown is None or mask is None:
        return None
    T = mask.shape[1]
    for window in range(1, T + 1):
        made = prefix_lm_mask(mask, types, window)
        if made.shape == shown.shape and np.array_equal(
            made[mask[:, None] != 0], shown[mask[:, None] != 0]
        ):
            return window
    return None
