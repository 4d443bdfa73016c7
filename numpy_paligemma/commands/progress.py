"""Progress on stderr, driven by the taps; silent where stderr is no terminal."""

import os
from types import TracebackType
from typing import NoReturn, Self, TextIO

import numpy as np
from tqdm import tqdm

from numpy_paligemma.model.config import PaliGemmaConfig
from numpy_paligemma.model.tap import Tap, no_tap


class Progress:
    """A bar for the layers of the first pass, and notes around it."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.on = stream.isatty()
        # both are read when huggingface_hub is first imported, which is later
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # the one line is ours
        if not self.on:
            os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        self.bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave no bar behind, whatever happened."""
        self.clear()

    def note(self, text: str) -> None:
        """Say something on a line of its own."""
        if self.on:
            print(text, file=self.stream)

    def tap(self, c: PaliGemmaConfig, *, looked: bool = False) -> Tap:
        """Make a tap that moves the bar on at the end of every block still to come."""
        if not self.on:
            return no_tap
        depth = c.text.depth + (0 if looked else c.vision.depth)
        self.bar = tqdm(total=depth, unit="layer", leave=False, file=self.stream)

        def move(name: str, x: np.ndarray) -> np.ndarray:
            stage, _, rest = name.partition("/")
            if self.bar is not None and rest.startswith("block") and rest[7:] == "/out":
                self.bar.set_description("looking" if stage == "vision" else "reading")
                self.bar.update()
            return x

        return move

    def clear(self) -> None:
        """Take the bar off the screen."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
