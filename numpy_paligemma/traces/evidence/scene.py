"""The place of the first difference: what both sides hold around it, and the model."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from numpy_paligemma.model.cache import LayerCache
from numpy_paligemma.model.fusion import positions_of
from numpy_paligemma.traces.causes.masks import right_masks
from numpy_paligemma.traces.causes.variant import Setup
from numpy_paligemma.traces.compare import Comparison, Pair, Row, prepared, real_rows
from numpy_paligemma.traces.evidence.fits import with_fits
from numpy_paligemma.traces.evidence.gains import with_norms
from numpy_paligemma.traces.evidence.known import (
    Model,
    checkpoint_model,
    model_of_shapes,
)
from numpy_paligemma.traces.evidence.matrices import with_matrices
from numpy_paligemma.traces.evidence.replay import Part
from numpy_paligemma.traces.reading.align import HIDDEN, align, is_headed
from numpy_paligemma.traces.reading.names import NUMBER, Name, is_gemma_2, rank
from numpy_paligemma.traces.tolerance import DECODER_BLOCK, tolerance

STREAM = ("vision/embed", "vision/out", "projector/out", "fusion/out", "decoder/out")


@dataclass(frozen=True)
class Scene:
    """The first difference of a comparison."""

    comparison: Comparison
    row: Row
    checkpoint: str = ""  # given by hand, before what the traces name

    @property
    def pair(self) -> Pair:
        """Take both traces."""
        return self.comparison.pair

    @cached_property
    def name(self) -> Name:
        """Take the first differing tap's name."""
        return self.pair.a.names[self.row.name]

    @cached_property
    def agreed(self) -> frozenset[str]:
        """List the taps of this pass that agree and come before."""
        rows = self.comparison.rows
        before = rows[: rows.index(self.row)]
        names = self.pair.a.names
        return frozenset(
            names[r.name].tap
            for r in before
            if r.agrees and names[r.name].step == self.name.step
        )

    def agrees(self, tap: str) -> bool | None:
        """Tell whether a tap of this pass agrees; None where it was not compared."""
        path = self.path(tap)
        rows = (row for row in self.comparison.rows if row.name == path)
        row = next(rows, None)
        return None if row is None else row.agrees

    def path(self, tap: str) -> str:
        """Put this pass's step before a tap's name."""
        return replace(self.name, tap=tap).path

    def full(self, tap: str, side: int) -> np.ndarray | None:
        """Take one side's array of a tap in our layout, padded rows and all."""
        return self._read(self.path(tap), tap, side)

    def both(self, tap: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Take both sides' arrays of a tap, in one layout."""
        path = self.path(tap)
        if path not in self.pair.a or path not in self.pair.b:
            return None
        name = self.pair.a.names[path]
        read = (self.pair.a.read(path), self.pair.b.read(path))
        aligned = prepared(self.pair, name, *read)
        if aligned is None:
            return None
        a, b = (self._headed(tap, x) for x in aligned[:2])
        return a, b

    def _read(self, path: str, tap: str, side: int) -> np.ndarray | None:
        traces = (self.pair.a, self.pair.b)
        if path not in traces[side]:
            return None
        x = traces[side].read(path)
        if tap.endswith("scores") and np.any(x < HIDDEN):
            return None  # written after the mask: what was hidden is lost
        if path in traces[1 - side]:
            other = traces[1 - side].read(path)
            both = (x, other) if side == 0 else (other, x)
            aligned = align(tap, *both, self.pair.tokens)
            if aligned is None:
                return None
            return self._headed(tap, aligned.b if side else aligned.a)
        return self._headed(tap, x)

    def _headed(self, tap: str, x: np.ndarray) -> np.ndarray:
        """Give an array its batch axis and its heads, where they are missing."""
        rank_due = 4 if is_headed(tap) else 3
        if is_headed(tap) and not tap.endswith(("scores", "probs")) and x.ndim < 4:
            x = x[None] if x.ndim == 2 else x
            H = self._head_dim(tap)
            if H and x.ndim == 3 and x.shape[-1] % H == 0:
                return x.reshape(*x.shape[:2], -1, H).swapaxes(1, 2)
        if tap.startswith(("vision", "projector", "decoder", "fusion")) and (
            x.ndim == rank_due - 1
        ):
            return x[None]
        return x

    def _head_dim(self, tap: str) -> int:
        """Find the heads' size, of the checkpoint or of a tap that shows it."""
        loaded = self.loaded
        if loaded is not None:
            c = loaded[1]
            return c.vision.head_dim if tap.startswith("vision") else c.text.head_dim
        room = tap.partition("/")[0]
        for trace in (self.pair.a, self.pair.b):
            for path, held in trace.held.items():
                n = trace.names[path].tap
                plain = is_headed(n) and not n.endswith(("scores", "probs"))
                if plain and n.startswith(room) and len(held.shape) == 4:
                    return held.shape[-1]
        return 0

    @cached_property
    def loaded(self) -> Model | None:
        """Load the checkpoint that was given, or that a side names and that is here."""
        a, b = self.pair.a, self.pair.b
        dtype = a.says("dtype") or b.says("dtype") or "float32"
        if self.checkpoint:
            return checkpoint_model(self.checkpoint, dtype)
        tries = (
            checkpoint_model(
                t.says("checkpoint"), dtype, t.says("checkpoint_sha256"), t.path
            )
            for t in (a, b)
        )
        return next((found for found in tries if found is not None), None)

    def model(self, side: int) -> Model:
        """Take the checkpoint, or what a side's taps tell of it."""
        if self.loaded is not None:
            return self.loaded
        w, c = model_of_shapes(self._shape, self.pair.depths, gemma_2=self.gemma_2)
        types = self.pair.given("inputs/token_type_ids")

        def given(tap: str) -> np.ndarray | None:
            return self._base(tap, side)

        c = replace(c, text=with_fits(c.text, given, self.pair.mask, types))
        model = with_norms((w, c), given, self.name.tap)
        return with_matrices(model, given, self.name.tap)

    @cached_property
    def gemma_2(self) -> bool:
        """Whether the decoder is a Gemma 2."""
        return is_gemma_2((*self.pair.a.held, *self.pair.b.held))

    def _base(self, tap: str, side: int) -> np.ndarray | None:
        """Take a tap of the pass over the prompt, of a side or of the other."""
        own = self._read(tap, tap, side)
        return self._read(tap, tap, 1 - side) if own is None else own

    def _shape(self, tap: str) -> tuple[int, ...] | None:
        x = self._base(tap, 0)
        return None if x is None else x.shape

    def given(self, side: int, until: str) -> "Given":
        """Make a side's arrays: its own, and the other's where both still agree."""
        return Given(self, side, rank(until))

    def setup(self, side: int) -> Setup:
        """Gather what a side's pass was made of."""
        w, c = self.model(side)
        pair = self.pair
        ids, mask = pair.given("inputs/input_ids"), pair.mask
        if mask is None and ids is not None:
            mask = np.ones_like(ids)
        if mask is None and pair.tokens is None:
            fused = self._base("fusion/out", side)
            mask = None if fused is None else np.ones(fused.shape[:2], np.int64)
        if c.image_token_id < 0 and ids is not None:
            values, counts = np.unique(ids, return_counts=True)
            c = replace(c, image_token_id=int(values[np.argmax(counts)]))
        positions = None if mask is None else positions_of(mask)
        if self.name.step and mask is not None and positions is not None:
            positions = positions[:, -1:] + self.name.step
            ids = None
            mask = np.pad(mask, ((0, 0), (0, self.name.step)), constant_values=1)
        types = pair.given("inputs/token_type_ids")
        types = None if types is None or self.name.step else types
        pixels = pair.given("inputs/pixel_values")
        made = Setup(w, c, pixels, ids, mask, types, positions, (None, None))
        return replace(made, masks=self._masks(made, side))

    def _masks(
        self, made: Setup, side: int
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Take the masks that a side shows, where both agree on them; else make them."""
        full, window = right_masks(made)
        if self.name.step:
            return full, window
        if "fusion/mask" in self.agreed:
            full = self.full("fusion/mask", side)
        if "fusion/window_mask" in self.agreed:
            window = self.full("fusion/window_mask", side)
        elif made.c.text.window is None:
            window = full
        return full, window

    @cached_property
    def start(self) -> str:
        """Find where a replay may begin: the last tap of the stream that both agree on."""
        at = rank(self.name.tap)
        agreed = [
            tap
            for tap in self.agreed
            if (
                tap in STREAM
                or ("/block" in tap and tap.count("/") == 2 and tap.endswith("/out"))
            )
            and rank(tap) < at  # type: ignore[operator]
        ]
        if self.name.tap == "decoder/embed":
            return "projector/out"
        if agreed:
            return max(agreed, key=lambda tap: rank(tap) or (0, 0, 0))
        behind = at is not None and at[0] >= DECODER_BLOCK - 1
        return (
            "projector/out"
            if behind and self._base("projector/out", 0) is not None
            else ""
        )

    def part(self, side: int) -> Part:
        """Say which part of the model a replay of the difference runs."""
        if not self.name.step:
            return Part(self.start, self.name.tap)
        agreed = [
            t
            for t in self.agreed
            if t.startswith("decoder/block")
            and t.endswith("/out")
            and t.count("/") == 2
        ]
        start = max(agreed, key=lambda tap: rank(tap) or (0, 0, 0), default="")
        return Part(start, self.name.tap, self._caches(side))

    def _caches(self, side: int) -> tuple[LayerCache, ...]:
        """Fill the caches up to this block with what a side's earlier passes made."""
        dtype = (
            np.float64 if self.loaded is None else self.loaded[0].projector.bias.dtype
        )
        number = NUMBER.search(self.name.tap)
        last = int(number[0]) if number else -1
        return tuple(
            self._cache(i, side, np.zeros((), dtype) if i <= last else None)
            for i in range(self.pair.depths[1])
        )

    def _cache(self, block: int, side: int, like: np.ndarray | None) -> LayerCache:
        """Fill a block's cache; where that cannot be, or need not, it has no room."""
        at = f"decoder/block{block:02}/attention/"
        scopes = ["", *(f"step{n:03}/" for n in range(1, self.name.step))]
        kept = []
        for what in ("k", "v_proj"):
            parts = [self._own(scope + at + what, at + what, side) for scope in scopes]
            found = [part for part in parts if part is not None]
            if len(found) == len(parts):
                kept.append(np.concatenate(found, axis=2))
        if like is None or len(kept) < 2:
            return LayerCache.empty(1, 1, 0, 1, np.zeros(()))
        B, K, S, H = kept[0].shape
        cache = LayerCache.empty(B, K, S + 1, H, like)
        cache.extend(*kept)
        return cache

    def _own(self, path: str, tap: str, side: int) -> np.ndarray | None:
        x = self._read(path, tap, side)
        return self._read(path, tap, 1 - side) if x is None else x

    def real(self, x: np.ndarray) -> np.ndarray:
        """Take the rows that are compared."""
        return real_rows(self.pair, self.name, x)

    @cached_property
    def allowed(self) -> float:
        """Say by how much a replay of a few steps may be off."""
        if not self.row.tolerance:
            return 0.0
        tokens = self.pair.tokens or 0
        tap = self.name.tap
        near = (
            "decoder/block00/out"
            if tap.startswith(("decoder/b", "logits"))
            else "vision/block00/out"
        )
        return tolerance(near, self.pair.grain, (0, 1), tokens)


@dataclass(frozen=True)
class Given:
    """A side's arrays, by the names of their taps."""

    scene: Scene
    side: int
    until: tuple[int, int, int] | None  # before it, the other side's do as well

    def __call__(self, tap: str) -> np.ndarray | None:
        """Take the side's own array, or the other's where it has none."""
        own = self.scene.full(tap, self.side)
        at = rank(tap)
        if own is not None or at is None or self.until is None or at >= self.until:
            return own
        return self.scene.full(tap, 1 - self.side)
