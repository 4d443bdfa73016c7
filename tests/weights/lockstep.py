"""Two runs of one model side by side, every tap compared where both have it.

The taps of a 3B model are more than memory should hold. So theirs runs in a thread that
waits when it is some taps ahead, and each array is dropped as soon as it was compared.
"""

from collections.abc import Callable
from threading import Condition, Thread

import numpy as np
from comparison import real_rows
from tolerances import relative_error

from numpy_paligemma.model.tap import Tap

AHEAD = 64  # arrays that may wait: within a block theirs come in another order


class Meeting:
    """Where one thread puts arrays down by name, and another takes them away."""

    def __init__(self) -> None:
        self._waiting: dict[str, np.ndarray] = {}
        self._changed = Condition()
        self._over: BaseException | None = None

    def __setitem__(self, name: str, x: np.ndarray) -> None:
        """Put an array down as soon as there is room."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) < AHEAD or self._over)
            if self._over:
                raise self._over
            self._waiting[name] = x
            self._changed.notify_all()

    def take(self, name: str) -> np.ndarray:
        """Take an array away as soon as it is there."""
        with self._changed:
            self._changed.wait_for(lambda: name in self._waiting or self._over)
            if name not in self._waiting:
                msg = f"transformers did not come to {name}"
                raise RuntimeError(msg) from self._over
            self._changed.notify_all()
            return self._waiting.pop(name)

    def end(self, reason: BaseException) -> None:
        """Send whoever waits away."""
        with self._changed:
            self._over = reason
            self._changed.notify_all()


def errors_in_lockstep(
    ours: Callable[[Tap], object],
    theirs: Callable[[Meeting], object],
    attention_mask: np.ndarray,
) -> dict[str, float]:
    """Run both and measure every tap's relative error, in the order of ours.

    Parameters
    ----------
    ours : called with a tap
    theirs : called, in a thread, with a `Meeting` to put its arrays into
    attention_mask : integer array, (B, T)
    """
    meeting, errors = Meeting(), {}

    def run_theirs() -> None:
        try:
            theirs(meeting)
            meeting.end(RuntimeError("it ended before"))
        except BaseException as error:  # noqa: BLE001  told to the thread that waits
            meeting.end(error)

    def compare(name: str, x: np.ndarray) -> np.ndarray:
        pair = (x, meeting.take(name))
        errors[name] = relative_error(
            *(real_rows(name, array, attention_mask) for array in pair)
        )
        return x

    thread = Thread(target=run_theirs, daemon=True)
    thread.start()
    try:
        ours(compare)
    finally:
        meeting.end(RuntimeError("ours ended before"))
        thread.join()
    return errors
