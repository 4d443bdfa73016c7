"""The first difference as two arrays, and a cause that was found."""

from dataclasses import dataclass

import numpy as np

from numpy_paligemma.traces.compare import relative_error
from numpy_paligemma.traces.evidence.scene import Scene

CLEAR = 16  # how many times smaller an explained error is than the unexplained one


@dataclass(frozen=True, slots=True)
class Found:
    """A cause, and what speaks for it."""

    cause: str
    text: str


@dataclass(frozen=True)
class View:
    """The first difference as arrays of the rows that are compared."""

    scene: Scene
    a: np.ndarray
    b: np.ndarray

    @property
    def tap(self) -> str:
        """Take the tap's path."""
        return self.scene.name.tap

    def same(self, x: np.ndarray, y: np.ndarray) -> bool:
        """Tell equal arrays, to the tolerance of the tap."""
        return x.shape == y.shape and relative_error(x, y) <= self.scene.row.tolerance

    def explains(self, x: np.ndarray, y: np.ndarray, clear: float = CLEAR) -> bool:
        """Tell whether y, of one side, is x, made of the other, and that is no chance.

        In bfloat16 much is equal to the tolerance; what explains an error leaves next to
        nothing of it.
        """
        left = relative_error(x, y) if x.shape == y.shape else np.inf
        return left <= self.scene.row.tolerance and left * clear <= self.scene.row.error
