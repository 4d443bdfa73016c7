"""A known mistake as a change to the right model: what is changed, and where it shows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from numpy_paligemma.model.config import PaliGemmaConfig, TextConfig, VisionConfig
from numpy_paligemma.model.pipeline import PaliGemmaWeights


@dataclass(frozen=True, slots=True)
class Setup:
    """All that a pass is made of: the model, what it is given, and who may see whom."""

    w: PaliGemmaWeights
    c: PaliGemmaConfig
    pixels: np.ndarray | None
    ids: np.ndarray | None  # (B, T)
    attention_mask: np.ndarray | None  # (B, T), or (B, S) of a decode step
    token_type_ids: np.ndarray | None  # (B, T)
    positions: np.ndarray | None  # (B, T)
    masks: tuple[np.ndarray | None, np.ndarray | None]  # of full and of sliding blocks

    @property
    def is_step(self) -> bool:
        """Whether it is a decode step's, whose one position sees more keys than it has."""
        seen, at = self.attention_mask, self.positions
        return seen is not None and at is not None and at.shape[1] < seen.shape[1]

    def text(self, **changes: Any) -> "Setup":
        """Change sizes of the decoder."""
        c = replace(self.c, text=replace(self.c.text, **changes))
        return replace(self, c=c)

    def vision(self, **changes: Any) -> "Setup":
        """Change sizes of the eye."""
        c = replace(self.c, vision=replace(self.c.vision, **changes))
        return replace(self, c=c)

    def decoder(self, change: Callable[[Any], Any]) -> "Setup":
        """Change the weights of every block of the decoder."""
        blocks = tuple(change(block) for block in self.w.decoder.blocks)
        decoder = replace(self.w.decoder, blocks=blocks)
        return replace(self, w=replace(self.w, decoder=decoder))

    def eye(self, change: Callable[[Any], Any]) -> "Setup":
        """Change the weights of every block of the eye."""
        blocks = tuple(change(block) for block in self.w.vision.blocks)
        return replace(
            self, w=replace(self.w, vision=replace(self.w.vision, blocks=blocks))
        )

    def sizes(self, room: str) -> VisionConfig | TextConfig:
        """Take the sizes of a room, "vision" or "decoder"."""
        return self.c.vision if room == "vision" else self.c.text


@dataclass(frozen=True, slots=True)
class Here:
    """Where a replaced tap stands: the pass, and what it has made so far."""

    setup: Setup
    room: str
    number: int
    seen: Mapping[str, np.ndarray]

    def near(self, name: str) -> np.ndarray:
        """Take a tap of the same block by the end of its name."""
        return self.seen[f"{self.room}/block{self.number:02}/{name}"]

    @property
    def before(self) -> np.ndarray:
        """Take what went into the block."""
        return self.seen[self.came_from(self.number)]

    def came_from(self, number: int) -> str:
        """Name the tap before a block."""
        if number:
            return f"{self.room}/block{number - 1:02}/out"
        return "vision/embed" if self.room == "vision" else "fusion/out"

    @property
    def block(self) -> Any:
        """Take the block's weights."""
        w = self.setup.w
        blocks = w.vision.blocks if self.room == "vision" else w.decoder.blocks
        return blocks[self.number]


Swap = Callable[[Here, np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Variant:
    """A known mistake."""

    cause: str
    text: str  # what the side that made it does
    at: str  # the tap where it first shows, the block's number left out
    change: Callable[[Setup], Setup] | None = None  # before the pass
    swap: Swap | None = None  # of the array at `at`
    behind: Mapping[str, Swap] = field(default_factory=dict)  # of arrays as passed on

    def applied(self, setup: Setup) -> Setup:
        """Change what the pass is made of."""
        return setup if self.change is None else self.change(setup)
