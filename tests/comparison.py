"""How arrays of two runs are compared: real rows only, against the tensor's scale."""

import numpy as np
from tolerances import relative_error

from numpy_paligemma.arrays.device import map_arrays
from numpy_paligemma.arrays.matrix import HeldMatrix
from numpy_paligemma.paligemma import PaliGemma

Taps = dict[str, np.ndarray]


def tap_errors(
    found: Taps, expected: Taps, attention_mask: np.ndarray
) -> dict[str, float]:
    """Measure the relative error of every tap, padded query rows left out."""
    return {
        tap: relative_error(
            real_rows(tap, found[tap], attention_mask),
            real_rows(tap, expected[tap], attention_mask),
        )
        for tap in expected
    }


def real_rows(tap: str, x: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
    """Take the rows of real tokens out of (B, T, …) or (B, N, T, …); pictures have all.

    What a padded token asks and is told concerns nobody; that nobody hears of it is in
    the rows that stay: their probabilities have a column for every padded key.
    """
    if tap.startswith(("vision/", "projector/")):
        return x
    by_token = x if x.ndim == 3 else np.swapaxes(x, 1, 2)  # (B, T, …)
    return by_token[attention_mask == 1].astype(np.float64)


def widened(model: PaliGemma) -> PaliGemma:
    """Give a model the same weights as plain float32 arrays."""
    assert isinstance(model.weights.decoder.embed, HeldMatrix)
    return PaliGemma(model.config, map_arrays(model.weights, np.asarray))
