"""What was done to a picture, told by two arrays of pixels: (B, 3, height, width)."""

import numpy as np

from numpy_paligemma.traces.reading.pixels import CROPS, correlation, middle

RANGES = {  # what b is to a where a is in -1 … 1: (factor, added) -> cause
    "pixel range": ((0.5, 0.5), "levels are in 0 … 1 where -1 … 1 is due"),
    "pixel range, not normalised": (
        (127.5, 127.5),
        "levels are in 0 … 255 where -1 … 1 is due",
    ),
    "pixels rescaled twice": (
        (1 / 255, 1 / 255 - 1),
        "levels are divided by 255 twice",
    ),
}


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


EXACT = 1e-5


LIKE = 0.8  # correlation of one picture, resized in two ways


CROPPED = 0.5


SHIFTS = (-3, -2, -1, 1, 2, 3)


MONOTONE = 0.99999  # rank correlation


FILTERED = 0.75  # of what differs is left when neighbours may help


LEAN = 0.2  # pixels that a fitted filter leans to a side


def pixel_cause(a: np.ndarray, b: np.ndarray, allowed: float = 0.0) -> tuple[str, str]:
    """Say what was done to a picture: cause and text; empty where it is not known.

    `allowed` is what rounding may move numbers by, against the largest.
    """
    if a.ndim != 4 or a.shape != b.shape:
        return "", ""
    for one, x, other, y in (("A", a, "B", b), ("B", b, "A", a)):
        found = _exact(x, y, max(EXACT, allowed / 4))
        if found is not None:
            return found[0], f"{other}'s {found[1]}, if {one} is right"
    return _resampled(a, b)


def _exact(a: np.ndarray, b: np.ndarray, allowed: float) -> tuple[str, str] | None:
    """Look for what was done to every number alike."""
    for cause, text, x in (
        ("channel order", "channels are blue, green, red: BGR for RGB", a[:, ::-1]),
        ("picture mirrored", "picture is mirrored", a[..., ::-1]),
        ("picture mirrored", "picture is upside down", a[..., ::-1, :]),
        *(
            (
                "picture turned",
                f"picture is turned by {90 * n}°",
                np.rot90(a, n, (2, 3)),
            )
            for n in (1, 2, 3)
        ),
        (
            "picture turned",
            "picture is turned: x and y are exchanged",
            a.swapaxes(2, 3),
        ),
    ):
        if x.shape == b.shape and _near(x, b, allowed):
            return cause, text
    for cause, ((times, more), text) in RANGES.items():
        if _near(times * a + more, b, allowed):
            return cause.partition(",")[0], text
    if a.shape[1] != 3:
        return None
    for name, (mean, std) in {"ImageNet": IMAGENET, "CLIP": CLIP}.items():
        m, s = (np.array(x).reshape(3, 1, 1) for x in (mean, std))
        if _near(((a + 1) / 2 - m) / s, b, allowed):
            return (
                "mean and std",
                f"levels have the mean and standard deviation of {name}",
            )
    return None


def _near(x: np.ndarray, y: np.ndarray, allowed: float) -> bool:
    scale = float(np.max(np.abs(y), initial=0)) or 1.0
    return float(np.max(np.abs(x - y), initial=0)) <= allowed * scale


def _has_bars(grey: np.ndarray) -> bool:
    """Tell pictures (B, H, W) whose two opposite edges are of one level."""
    edges = ((grey[:, 0], grey[:, -1]), (grey[:, :, 0], grey[:, :, -1]))
    return any(all(np.ptp(edge) < EXACT for edge in pair) for pair in edges)


def _resampled(a: np.ndarray, b: np.ndarray) -> tuple[str, str]:
    """Tell other levels, places and resizes of one picture."""
    straight = correlation(a, b)
    if found := _levels(a, b):
        return found
    for n in (1, 2, 3):
        if straight < LIKE <= correlation(np.rot90(a, n, (2, 3)), b) - 0.1:
            return "picture turned", f"B's picture is A's, turned by {90 * n}°"
    shifted = max(
        correlation(np.roll(a, by, axis), b) for by in SHIFTS for axis in (2, 3)
    )
    if shifted >= max(LIKE, straight + 0.1):
        return "picture shifted", "B's picture is A's, some pixels aside"
    if found := _part(a.mean(axis=1), b.mean(axis=1)):
        return found
    if straight >= LIKE and _is_filtered(a, b):
        return (
            "resize filter",
            (
                "the same picture, made small by another filter (bicubic with antialias is "
                f"due): the levels correlate to {straight:.3f}, most of the rest is what "
                "their neighbours have"
            ),
        )
    return "", ""


def _part(a: np.ndarray, b: np.ndarray) -> tuple[str, str] | None:
    """Tell the middle of a picture, and a picture with bars: grey, (B, H, W)."""
    for one, (whole, part) in {"B": (a, b), "A": (b, a)}.items():
        cropped = max(
            correlation(middle(whole, *shares), part)
            for share in CROPS[:-1]
            for shares in ((share, 1.0), (1.0, share))
        )
        if cropped < max(CROPPED, correlation(a, b) + 0.2):
            continue
        if _has_bars(whole):
            other = "BA"["AB".index(one)]
            return "letterbox", f"{other} has bars: the picture kept its sides' ratio"
        return "cropped", f"{one} shows the middle of the picture, not all of it"
    return None


def _levels(a: np.ndarray, b: np.ndarray) -> tuple[str, str] | None:
    """Tell levels that lie along a line, or along a rising curve, of the other side's."""
    times = float(np.mean((a - a.mean()) * (b - b.mean())) / (np.var(a) or 1.0))
    more = float(b.mean() - times * a.mean())
    if times > 0 and _near(times * a + more, b, EXACT):
        return "levels", f"B's levels are {times:.5g} times A's, and {more:+.5g}"
    if _one_curve(a, b):
        return "levels", "B's levels are A's along a curve, as gamma bends them"
    return None


def _one_curve(a: np.ndarray, b: np.ndarray) -> bool:
    """Tell levels that are a rising function of the other side's."""
    ranks = [np.unique(x, return_inverse=True)[1].astype(float) for x in (a, b)]
    return correlation(ranks[0].reshape(-1), ranks[1].reshape(-1)) > MONOTONE


def _is_filtered(a: np.ndarray, b: np.ndarray) -> bool:
    """Tell levels that are a few neighbours' of the other side, by a fit of their shares.

    A resize by another filter is one, nearly, and both ways. Noise is none of what
    stands around; a shift leans to one side; a curve or a codec fit no better.
    """
    fits = [_fitted(x, y) for x, y in ((a, b), (b, a))]
    return all(left < FILTERED and lean < LEAN for left, lean in fits)


def _fitted(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Fit y by 5 × 5 neighbours of x: how much is left of what differs, and the lean."""
    at = range(-2, 3)
    moves = [(i, j) for i in at for j in at]
    near = [np.roll(x, move, (2, 3))[:, :, 2:-2, 2:-2].reshape(-1) for move in moves]
    columns = np.stack([*near, np.ones(near[0].size)], axis=1)
    target = y[:, :, 2:-2, 2:-2].reshape(-1)
    if len(target) < 4 * columns.shape[1]:
        return 1.0, 0.0
    left = []
    for used in (columns, columns[:, [12, 25]]):  # all of them, and the middle alone
        shares = np.linalg.lstsq(used, target, rcond=None)[0]
        left.append(float(np.sum(np.square(target - used @ shares))))
        if used is columns:
            lean = np.abs(np.array(moves).T @ shares[:-1]).max()
    return left[0] / (left[1] or 1.0), float(lean)
