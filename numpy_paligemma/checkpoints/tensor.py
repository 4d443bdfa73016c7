"""What is known of a tensor before its bytes are read, whatever file it lies in."""

from pathlib import Path
from typing import Protocol

import numpy as np


class Tensor(Protocol):
    """A tensor that is listed and not yet read."""

    @property
    def name(self) -> str:
        """As the file spells it."""

    @property
    def dtype(self) -> str:
        """As safetensors spells it."""

    @property
    def mapped(self) -> bool:
        """Whether reading gives the file's own pages, and not a copy."""

    @property
    def path(self) -> Path:
        """The file that it lies in."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes."""

    def read(self) -> np.ndarray:
        """Read it; bfloat16 as its uint16 bits."""


Tensors = dict[str, Tensor]  # by published name
