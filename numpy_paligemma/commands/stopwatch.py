"""``--profile``: where an answer's time went, on stderr; without it nothing is timed."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from numpy_paligemma.arrays.device import choose_device
from numpy_paligemma.model.tap import Tap
from numpy_paligemma.paligemma import PaliGemma
from numpy_paligemma.traces.profile import Profile
from numpy_paligemma.traces.profile_table import profile_table


class Stopwatch:
    """A profile, or nothing where none is wanted.

    Raises
    ------
    ValueError
        If one is wanted of a GPU, whose work goes on while the processor's clock runs.
    """

    def __init__(self, device: str, *, wanted: bool) -> None:
        if wanted and choose_device(device) != "cpu":
            msg = (
                f"--profile times the processor, and --device {device} is a GPU here; "
            )
            raise ValueError(msg + "add --device cpu")
        self.profile = Profile() if wanted else None

    def timed(self, stage: str) -> AbstractContextManager[None]:
        """Give the time of a block of statements to a stage."""
        return self.profile.timed(stage) if self.profile else nullcontext()

    def tap(self, model: PaliGemma, then: Tap) -> Tap:
        """Make a tap that times one call of `model`, or give `then` back."""
        return self.profile.tap(model, then) if self.profile else then

    def tokens(self, steps: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Pass on what `PaliGemma.stream` yields."""
        return self.profile.tokens(steps) if self.profile else steps

    def tell(self) -> None:
        """Print the table."""
        if self.profile:
            print(f"\n{profile_table(self.profile)}", file=sys.stderr)
