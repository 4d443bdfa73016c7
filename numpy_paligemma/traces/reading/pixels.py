"""Whether two arrays of pixels, (B, 3, height, width), are of one picture."""

import numpy as np

ALIKE = 0.4  # correlation of grey pictures: chance gives 0.3 at most, a resize 0.7
FLAT = 0.01  # a deviation that says nothing of a picture
CROPS = np.linspace(0.4, 1, 13)  # shares of a side that a crop may have left


def is_another_picture(a: np.ndarray, b: np.ndarray) -> bool:
    """Tell other pictures from the same ones made ready in another way.

    Whatever is done to a picture's levels, colours, edges or frame, its grey levels go
    on with those of the right one; the levels of another picture do not.
    """
    if a.shape != b.shape or a.ndim != 4 or np.array_equal(a, b):
        return False
    grey = [x.mean(axis=1) for x in (a, b)]
    if not min(x.std() for x in grey) >= FLAT:
        return False  # nor does NaN say of which picture it is
    turns = [np.rot90(grey[0], n, (1, 2)) for n in range(4)]
    turns += [turn.swapaxes(1, 2) for turn in turns]
    if any(_alike(turn, grey[1]) for turn in turns if turn.shape == grey[1].shape):
        return False
    return not (_is_crop(*grey) or _is_crop(*grey[::-1]))


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Correlate two arrays; nought where one is flat."""
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt(np.sum(x * x) * np.sum(y * y)))
    return float(np.sum(x * y)) / size if size else 0.0


def _alike(x: np.ndarray, y: np.ndarray) -> bool:
    return abs(correlation(x, y)) >= ALIKE


def _is_crop(whole: np.ndarray, part: np.ndarray) -> bool:
    """Tell whether a picture is the middle of another, stretched: (B, H, W) each."""
    return any(
        correlation(middle(whole, *shares), part) >= ALIKE
        for share in CROPS[:-1]
        for shares in ((share, 1.0), (1.0, share), (share, share))
    )


def middle(x: np.ndarray, down: float, across: float) -> np.ndarray:
    """Stretch the middle of pictures to the whole, by bilinear samples."""
    return _sampled(_sampled(x, down, -2), across, -1)


def _sampled(x: np.ndarray, share: float, axis: int) -> np.ndarray:
    """Stretch the middle share of an axis to all of it."""
    n = x.shape[axis]
    at = np.clip(((np.arange(n) + 0.5) / n - 0.5) * share * n + n / 2 - 0.5, 0, n - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, n - 1)
    weight = (at - low).reshape([-1] + [1] * (-axis - 1))
    return np.take(x, low, axis) * (1 - weight) + np.take(x, high, axis) * weight
