"""Where the time of an answer goes: a tap that holds a stop-watch.

A tap sees every array at its birth, so the time between two taps is what the later one
took. Nothing of it is in the formulas, and without the tap nothing is timed.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from numpy_paligemma.model.tap import Tap, no_tap
from numpy_paligemma.paligemma import PaliGemma
from numpy_paligemma.traces.work import WorkCounter

# the stages of an answer, in the order of the line
LOAD, PICTURE, VISION, PROJECTOR = "load", "picture, prompt", "vision", "projector"
PREFILL, DECODE, SAMPLING, OTHER = "prefill", "decode", "sampling", "other"
STAGES = (LOAD, PICTURE, VISION, PROJECTOR, PREFILL, DECODE, SAMPLING, OTHER)

# the kinds of layers, in the order of a block
EMBED, NORMS, PROJECTIONS, ROTATION = "embed", "norms, sums", "q, k, v", "rotation"
PROBS, CONTEXT, MLP, HEAD = "scores, probs", "context, out", "MLP", "head"
KINDS = ("", EMBED, NORMS, PROJECTIONS, ROTATION, PROBS, CONTEXT, MLP, HEAD)

BLOCK_KINDS = {
    "attention_norm": NORMS,
    "attention/scores": PROBS,
    "attention/probs": PROBS,
    "attention/out": CONTEXT,
    "attention_post_norm": NORMS,
    "mid": NORMS,
    "mlp_norm": NORMS,
    "mlp/out": MLP,
    "mlp_post_norm": NORMS,
    "out": NORMS,  # of a tower, too, which ends with a norm
}
TOWER_KINDS = {
    "vision": BLOCK_KINDS
    | {"embed": EMBED}
    | dict.fromkeys(["attention/q", "attention/k", "attention/v"], PROJECTIONS),
    "decoder": BLOCK_KINDS
    | {"embed": EMBED}
    | dict.fromkeys(
        ["attention/q_proj", "attention/k_proj", "attention/v_proj"], PROJECTIONS
    )
    | dict.fromkeys(["attention/q", "attention/k"], ROTATION),
    "fusion": dict.fromkeys(["out", "mask", "window_mask"], EMBED),
}


@dataclass(slots=True)
class Row:
    """What one kind of layer took, in one stage."""

    stage: str
    kind: str = ""  # none where a stage is not taken apart
    seconds: float = 0.0
    calls: int = 0  # arrays made
    flops: int = 0  # of matrix products
    read: int = 0  # bytes, of weights as held, keys and values

    def add(self, other: "Row") -> None:
        """Take another row's figures in."""
        self.seconds += other.seconds
        self.calls += other.calls
        self.flops += other.flops
        self.read += other.read


class Profile:
    """Times an answer by stages and kinds of layers, from when it is made.

        profile = Profile()
        ids = model.generate(**inputs, tap=profile.tap(model))
        print(profile_table(profile))

    Where a checkpoint is mapped, its pages are read from the disk where they are first
    multiplied, and that is where their time shows.
    """

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], Row] = {}
        self._start = self._last = time.perf_counter()
        self._stage = PREFILL
        self._drawing = False  # logits are there, and their token is not yet

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Give the time of a block of statements to a stage, such as `LOAD`."""
        self._begin()
        yield
        self._add(stage, "")

    def tap(self, model: PaliGemma, then: Tap = no_tap) -> Tap:
        """Make a tap that times one call of `model`; `then` sees the arrays, untimed.

        Of `generate` the last token's draw shows as `OTHER`, because no tap follows it;
        `tokens` tells it apart.
        """
        work = WorkCounter(model)

        def watch(name: str, x: np.ndarray) -> np.ndarray:
            row = self._add(*self._place(name, x))
            flops, read = work(name, x)
            row.flops += flops
            row.read += read
            x = then(name, x)
            self._begin(drawing=name == "logits")
            return x

        self._begin()
        return watch

    def tokens(self, steps: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Pass on what `PaliGemma.stream` yields; what is done with it is `OTHER`."""
        for ids in steps:
            self._add(SAMPLING, "")
            yield ids
            self._begin()

    def rows(self) -> list[Row]:
        """List what was taken so far, in the order of the line; the last is `OTHER`.

        Their seconds add up to those since the profile was made.
        """
        wall = time.perf_counter() - self._start
        places = [(stage, kind) for stage in STAGES for kind in KINDS]
        rows = [self._rows[place] for place in places if place in self._rows]
        return [*rows, Row(OTHER, "", wall - sum(row.seconds for row in rows))]

    def _place(self, name: str, x: np.ndarray) -> tuple[str, str]:
        """Say which stage and kind a tap's time belongs to."""
        tower, _, rest = name.partition("/")
        if name == "decoder/embed":  # one place a row: a token that was drawn
            self._stage = DECODE if x.shape[1] == 1 else PREFILL
            if self._drawing and x.shape[1] == 1:  # not the next part of a prefill
                return SAMPLING, ""
        if name == "logits":
            return self._stage, HEAD
        if tower == PROJECTOR:
            return PROJECTOR, ""
        if rest.startswith("block"):
            rest = rest.partition("/")[2]
        stage = VISION if tower == "vision" else self._stage
        return stage, TOWER_KINDS[tower][rest]

    def _add(self, stage: str, kind: str) -> Row:
        """Book the time since the last tap or mark: the row that it went into."""
        now = time.perf_counter()
        row = self._rows.setdefault((stage, kind), Row(stage, kind))
        row.seconds += now - self._last
        row.calls += 1
        self._begin()
        return row

    def _begin(self, *, drawing: bool = False) -> None:
        """Begin another row's time."""
        self._drawing = drawing
        self._last = time.perf_counter()
