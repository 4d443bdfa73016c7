"""The six phases of training, each ending by the clock with its rates at 0.

1 *look*: the vision tower alone, with its heads. 2 *pack*: everything, many questions
to a picture. 3 *exact*: one question a row under PaliGemma's own mask. 4 *boxes*: packed again,
mostly `detect`. 5 *masks*: everything again, packed, with `segment`.
6 *polish*: the same once more, at lower rates.
"""

import time
from dataclasses import dataclass

WARM_UP = 100  # steps


@dataclass(frozen=True)
class Phase:
    """What distinguishes a phase."""

    name: str
    seconds: float
    pictures: int  # a batch, all processes together
    length: int  # of a row of text; 0: look only
    each: int  # rows of one question a picture; 0: one packed row
    muon_rate: float
    adam_rate: float
    cooling: float  # share of the time over which the rates fall to 0
    heads_weight: float
    mix: str = "everything"


LOOK = Phase("look", 1080, 128, 0, 0, 0.02, 3e-3, 0.35, 1.0)
PACK = Phase("pack", 4320, 128, 112, 0, 0.02, 3e-3, 0.3, 0.2)
EXACT = Phase("exact", 540, 96, 56, 2, 0.002, 3e-4, 0.9, 0.1)
BOXES = Phase("boxes", 900, 128, 112, 0, 0.01, 1.5e-3, 1.0, 0.2, "mostly boxes")
MASKS = Phase("masks", 4200, 64, 128, 0, 0.01, 1.5e-3, 0.7, 0.2, "masks too")
POLISH = Phase("polish", 720, 64, 128, 0, 0.006, 9e-4, 1.0, 0.2, "masks too")


class Clock:
    """Counts a phase's seconds, over interruptions."""

    def __init__(self, elapsed: float) -> None:
        self.start = time.monotonic() - elapsed

    def seconds(self) -> float:
        """Return the time spent in the phase."""
        return time.monotonic() - self.start


def rate_share(phase: Phase, seconds: float, steps: int) -> float:
    """Return the share of the full rate: warm-up, level, falling to 0."""
    left = max(0.0, 1 - seconds / phase.seconds)
    return min(1.0, (steps + 1) / WARM_UP, left / phase.cooling)
