"""A trace while it is made: a tap that writes every array down, and its table."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from numpy_paligemma.arrays.device import to_host
from numpy_paligemma.traces.writing.choice import step_scope
from numpy_paligemma.traces.writing.stream import TensorStream

INPUTS = "inputs/"
NUMBERS = 1 << 20  # looked at together, so that nothing large is copied


@dataclass(frozen=True, slots=True)
class Row:
    """What a trace's table says of a tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    low: float
    high: float
    mean: float  # of the absolute values


class Trace:
    """A trace that is being recorded; `record.trace_file` makes it."""

    def __init__(
        self, stream: TensorStream, planned: Iterable[str], chosen: Iterable[str]
    ) -> None:
        self.rows: list[Row] = []
        self._stream = stream
        self._planned, self._chosen = set(planned), set(chosen)
        self._step = 0

    @property
    def steps(self) -> int:
        """How many decode steps there were."""
        return max(self._step - 1, 0)

    def tap(self, name: str, x: np.ndarray) -> np.ndarray:
        """Write `x` down, and let it pass; behind the logits the next step begins.

        Raises
        ------
        ValueError
            If the run has more in it than one pass and the steps that were announced.
        """
        full = step_scope(self._step) + name
        self._step += name == "logits"
        if full not in self._planned:
            msg = f"{full}: more than the one pass and the decode steps that a trace "
            raise ValueError(msg + "was opened for; give steps, or another file")
        if full in self._chosen:
            host = to_host(x)
            self._stream.add(full, host)
            self.rows.append(_row(full, host))
        return x

    def give(self, name: str, x: np.ndarray) -> None:
        """Write down what the model is given in the pass, or in the step to come."""
        self._stream.add(f"{step_scope(self._step)}{INPUTS}{name}", x)


def _row(name: str, x: np.ndarray) -> Row:
    """Sum an array up."""
    flat = x.reshape(-1)
    parts = (flat[start : start + NUMBERS] for start in range(0, x.size, NUMBERS))
    total = sum(float(np.abs(part).sum(dtype=np.float64)) for part in parts)
    low, high = float(x.min()), float(x.max())
    return Row(name, x.shape, x.dtype.name, low, high, total / x.size)
