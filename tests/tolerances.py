"""Every tolerance, with the rounding measured below it and the mistake above it."""

import numpy as np

# --- leaves against a second formula, float64 -----------------------------------------
# rounding: 3.7e-14 (layer_norm far from nought), else 2.8e-15; smallest mistakes: eps
# outside the root, 4.6e-7, and 0.04472 for GELU's 0.044715, 4.8e-7
ORACLE = 1e-12

# --- a reader's layers against ours, float64 ------------------------------------------
# rounding: 6e-15 (rope_table by complex exponentials; elsewhere 5e-16); smallest mistake:
# LayerNorm with its eps outside the root, seen through a whole block, 2.6e-5
EXERCISE = 1e-12
SMALLEST_EXERCISE_MISTAKE = 1e-5

# --- the mask decoder against PyTorch's convolutions ----------------------------------
# Relative to the mask's largest number; mistakes: tests/mask_mistakes.py.

# float64 is held to FLOAT64, below: rounding 1.8e-15. float32: rounding 4.4e-7 (PyTorch's
# own: 8.8e-7). Smallest mistake in either: a leaky ReLU, 2.6e-2
FLOAT32_MASKS = 5e-6
SMALLEST_MASK_MISTAKE = 1e-2

# --- a stretched mask against a second formula of Pillow's bilinear -------------------
# Relative to the mask's largest number. Rounding: 1.1e-7. Smallest mistake: bicubic, 1.4e-2
STRETCHED = 1e-6

# --- the whole line against transformers ----------------------------------------------
# Relative to the tensor's largest value, padded query rows left out. Measured: the
# largest over the models of tests/parity/random_models.py and of tests/golden; and over
# tests/mistakes.py, each at the tap where it first shows.

# every tap in float64. Rounding: 5.1e-15 (logits 3.7e-15). Smallest mistake: LayerNorm
# with its eps outside the root, 4.3e-7
FLOAT64 = 1e-12
SMALLEST_MISTAKE = 1e-7

# every tap in float64 against golden values that were rounded once to float32: half a
# unit in the last place of the largest. Rounding: 5.5e-8. Smallest mistake as above
STORED_FLOAT32 = 2**-24

# every tap in float32. Rounding: 1.4e-6 (transformers' own: 1.7e-6). Smallest mistake
# but for the four that move an eps (4.3e-7 to 9.6e-5): erf in GELU, 2.1e-4
FLOAT32_TAPS = 1e-5
SMALLEST_MISTAKE_FLOAT32 = 1e-4

# the logits in float32 may err twice as much as transformers', or so much where that is
# less. Rounding: 1.4e-6, 0.6 to 1.9 times transformers'. Smallest mistake as above
FLOAT32_LOGITS = 5e-6


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Measure the largest difference against the scale of the whole tensor."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    scale = np.max(np.abs(expected), initial=0)
    difference = np.max(np.abs(found - expected), initial=0)
    return float(difference / scale) if scale else float(difference)
