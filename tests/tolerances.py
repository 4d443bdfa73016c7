"""Every tolerance, with the rounding measured below it and the mistake above it."""

import numpy as np

# --- leaves against a second formula, float64 -----------------------------------------
# rounding: 1e-15 at most; smallest mistake: eps outside the root, 4e-9 on unit vectors
ORACLE = 1e-12


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Measure the largest difference against the scale of the whole tensor."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    scale = np.max(np.abs(expected), initial=0)
    difference = np.max(np.abs(found - expected), initial=0)
    return float(difference / scale) if scale else float(difference)

# --- a reader's layers against ours, float64 ------------------------------------------
# rounding: measured below; smallest mistake: eps outside the root
EXERCISE = 1e-12
