"""How far two right runs may lie apart at a tap: rounding, and how it grows.

Measured on the random configurations of tests/parity/random_models.py, nine of them
PaliGemma 2, on three narrow ones of full depth (27 blocks of SigLIP, 18 of Gemma or 26
of Gemma 2) and on the miniature: our runs and transformers' in float32, bfloat16 and
float16, and ours in float64, each against transformers in lifted float64; the largest
difference of a tap over its largest number, in half units of the dtype. It is the same
for every dtype to a factor of two, and grows fast in the first blocks and hardly later:

    where                          largest
    embeddings                     6
    SigLIP, block 0 / 1 / 26       13 / 29 / 52
    Gemma, block 0 / 2 / 4 / last  40 / 82 / 79 / 86

Two sides may each be off by so much, which the tolerance covers twice over at the start
and a little less in the middle of a decoder. The smallest mistake that is not an eps,
erf in GELU, is 1.2e-4: 2,000 half units of float32, and far below one of bfloat16.
"""

import math

from numpy_paligemma.traces.reading.files import HALF_UNIT
from numpy_paligemma.traces.reading.names import rank

FIRST, GROWTH = 16, 64  # half units: before any block, and times √(blocks passed)
VISION_BLOCK, DECODER_BLOCK, END = 2, 4, 5  # rooms, as `rank` counts them
ANGLE = 2.0**-24  # a token: what an angle is off by where it is worked out in float32


def tolerance(tap: str, grain: str, depths: tuple[int, int], tokens: int) -> float:
    """Say how far a tap may be off, against its largest number.

        u · (16 + 64 · √blocks) + angle · tokens behind the first rotation

    Parameters
    ----------
    tap : str
    grain : str
        The coarser of both sides' dtypes, whose half unit in the last place is u.
    depths : int, int
        Blocks of the eye, and of the decoder.
    tokens : int
        The largest position. Angles of float32 are off by it times 2^-24, which is what
        transformers works with whatever the dtype; in float64 by as many 2^-53.
    """
    unit = HALF_UNIT[grain]
    at = rank(tap)
    turned = tokens if at and at[0] >= DECODER_BLOCK else 0
    angle = unit if grain == "float64" else ANGLE
    blocks = blocks_before(tap, depths)
    return unit * (FIRST + GROWTH * math.sqrt(blocks)) + angle * turned


def blocks_before(tap: str, depths: tuple[int, int]) -> int:
    """Count the blocks that a tap's numbers went through, its own among them."""
    at = rank(tap)
    if at is None:
        return sum(depths)
    room, block, _ = at
    if room < VISION_BLOCK or tap == "decoder/embed":
        return 0
    if room == VISION_BLOCK:
        return block + 1
    return depths[0] + {DECODER_BLOCK: block + 1, END: depths[1]}.get(room, 0)
