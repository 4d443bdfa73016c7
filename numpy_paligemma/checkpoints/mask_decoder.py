"""The mask decoder's `.npz`: found by name or path, every array of it accounted for."""

import logging
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from numpy_paligemma.answers.segmentation import (
    Kernel,
    MaskDecoderWeights,
    ResidualWeights,
)
from numpy_paligemma.arrays.hold import HELD_DTYPES
from numpy_paligemma.arrays.matrix import widen_bfloat16
from numpy_paligemma.checkpoints.faults import tell
from numpy_paligemma.checkpoints.hub import hub_file

log = logging.getLogger(__name__)

PUBLISHED = "vae-oid"  # trained on Open Images; the name of PaliGemma's own decoder
FILE = f"{PUBLISHED}.npz"
SPACE = "big-vision/paligemma-hf"  # on the hub, with a copy of the file
WAYS_TO_IT = (
    f"it is the public file gs://big_vision/paligemma/{FILE}, and lies in the hub's "
    f"Space {SPACE}; give --mask-decoder FILE, or --mask-decoder {PUBLISHED} to "
    f"download it"
)

WIDTH = 128  # channels of the residual blocks
ROWS, ROW = 128, 512  # the codebook: one row a `<seg>` token
UPSAMPLED = (128, 128, 64, 32, 16)  # channels before, between and behind the four
SHAPES = {
    "_vq_vae._embedding": (ROWS, ROW),
    "decoder.0": (WIDTH, ROW, 1, 1),
    **{
        f"decoder.{block}.net.{i}": (WIDTH, WIDTH, k, k)
        for block in (2, 3)
        for i, k in ((0, 3), (2, 3), (4, 1))
    },
    **{
        f"decoder.{4 + 2 * i}": (UPSAMPLED[i], UPSAMPLED[i + 1], 4, 4) for i in range(4)
    },
    "decoder.12": (1, UPSAMPLED[-1], 1, 1),
}
