"""The first difference as two arrays, and a cause that was found."""

from dataclasses import dataclass

import numpy as np

from numpy_paligemma.traces.compare import relative_error
from numpy_paligemma.traces.scene import Scene


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
