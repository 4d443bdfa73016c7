"""Every tolerance, with the rounding measured below it and the mistake above it."""

import numpy as np

# --- leaves against a second formula, float64 -----------------------------------------
# rounding: 1e-15 at most; smallest mistake: eps outside the root, 4e-9 on unit vectors
ORACLE = 1e-12

# --- a reader's layers against ours, float64 ------------------------------------------
# rounding: measured below; smallest mistake: eps outside the root
EXERCISE = 1e-12

# --- the whole line against transformers -----------------------------------------------
# relative to the tensor's largest value; the figures are the extremes over all models of
# tests/parity/random_models.py and both of tests/golden
FLOAT64 = 1e-12
FLOAT32_LOGITS = 5e-6
FLOAT32_TAPS = 1e-5


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Measure the largest difference against the scale of the whole tensor."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    scale = np.max(np.abs(expected), initial=0)
    difference = np.max(np.abs(found - expected), initial=0)
    return float(difference / scale) if scale else float(difference)
