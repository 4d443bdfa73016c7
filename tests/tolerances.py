"""Every tolerance, with the rounding measured below it and the mistake above it."""

import numpy as np

# --- leaves against a second formula, float64 -----------------------------------------
# rounding: 3.7e-14 (layer_norm far from nought), else 2.8e-15; smallest mistakes: eps
# outside the root, 4.6e-7, and 0.04472 for GELU's 0.044715, 4.8e-7
ORACLE = 1e-12

# --- a held matrix multiplied by two algorithms ---------------------------------------
# On a device whole rows, on a processor lanes and tiles, of 96 terms, relative to the
# largest. Rounding: 6.0e-7. Smallest mistake: x rounded to bfloat16 as well, 1.0e-3
FLOAT32_PRODUCT = 5e-6

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

# --- the README's first picture, drawn again from the recorded answer -----------------
# mean difference in levels of 255. Rounding: 0 with the Pillow that drew it; others may
# smooth letters or pack a JPEG otherwise. Smallest mistake: one letter another, 0.13
README_PICTURE = 0.05

# --- the whole line against keras-hub -------------------------------------------------
# FLOAT64 where its casts are lifted: rounding 1.1e-14, the same smallest mistake,
# 4.4e-7. FLOAT32_TAPS in float32 on both sides: rounding 3.1e-6, over the models of
# tests/parity/test_keras_hub.py

# --- a whole checkpoint of real size against transformers -----------------------------
# Every tap, by the dtype that transformers computes in; ours computes in float32.
# Measured on tests/weights/random_checkpoint.py's, 3B at 224 pixels: float32 1.2e-5, at
# rotated keys, whose angles transformers has in float32 (logits 9.4e-6). bfloat16 on the
# miniature alone: 3.1e-2. Smallest mistakes, on the miniature: √D rounded to bfloat16,
# 1.6e-4, and erf in GELU, 8.5e-4; in bfloat16 both are lost
FULL_SIZE = {"float32": 1e-4, "bfloat16": 1e-1}


# --- eight bits against the bfloat16 that they are rounded from ------------------------
# The miniature's last logits, the mean over its ten samples. Rounding: 6.2e-3 (4.0e-3 to
# 8.2e-3). Smallest mistake: 63 steps a side for 127, 1.3e-2
INT8_LOGITS = 9e-3


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Measure the largest difference against the scale of the whole tensor."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    scale = np.max(np.abs(expected), initial=0)
    difference = np.max(np.abs(found - expected), initial=0)
    return float(difference / scale) if scale else float(difference)
