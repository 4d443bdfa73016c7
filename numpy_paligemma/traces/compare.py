"""Two traces compared, tap by tap in the model's order, and the first that differs."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from numpy_paligemma.traces.reading.align import Aligned, align, without_hidden
from numpy_paligemma.traces.reading.alike import check_alike
from numpy_paligemma.traces.reading.files import HALF_UNIT, Trace, traces
from numpy_paligemma.traces.reading.names import Name, rank, sort_key
from numpy_paligemma.traces.tolerance import DECODER_BLOCK, VISION_BLOCK, tolerance

PADDED = ("decoder/", "fusion/", "logits")  # taps with a row for each token
FINITE = np.finfo(np.float64).max
HELD = {"bfloat16", "float16", "int8"}
EMBEDDINGS = ("vision/embed", "decoder/embed")  # the first that weights make
EXACT = ("fusion/mask", "fusion/window_mask")


@dataclass(frozen=True, slots=True)
class Row:
    """One tap of both traces."""

    name: str
    error: float  # against A's largest number; infinite where there is no number
    tolerance: float
    notes: tuple[str, ...] = ()  # layouts that were brought together
    shape: tuple[int, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether the error is within the tolerance; NaN is not."""
        return bool(self.error <= self.tolerance)


@dataclass(frozen=True)
class Pair:
    """Two opened traces, and what is known of both."""

    a: Trace
    b: Trace

    @cached_property
    def shared(self) -> list[Name]:
        """Names of both, in the model's order."""
        both = [name for path, name in self.a.names.items() if path in self.b]
        place = {name.path: i for i, name in enumerate(both)}
        return sorted(both, key=lambda name: sort_key(name, place[name.path]))

    @cached_property
    def grain(self) -> str:
        """Take the coarser side's dtype: of its numbers, or of its weights."""
        sides = [self.a.grain, self.b.grain]
        grain = max(sides, key=lambda side: HALF_UNIT[side])
        said = {t.says("dtype") for t in (self.a, self.b)}
        held = ["bfloat16" if dtype == "int8" else dtype for dtype in said & HELD]
        if len(said) == 1 or not held or self._same_weights(grain):
            return grain
        return max([grain, *held], key=lambda side: HALF_UNIT[side])

    def _same_weights(self, grain: str) -> bool:
        """Tell by the embeddings whether holding weights otherwise changed them at all.

        Many checkpoints are stored in 16 bits: then it does not.
        """
        rows = [
            _row(self, self.a.names[tap], grain)
            for tap in EMBEDDINGS
            if tap in self.a and tap in self.b
        ]
        return bool(rows) and all(row.agrees for row in rows)

    @cached_property
    def depths(self) -> tuple[int, int]:
        """Count the eye's and the decoder's blocks by the names of either side."""
        most = {VISION_BLOCK: 0, DECODER_BLOCK: 0}
        for name in (*self.a.names.values(), *self.b.names.values()):
            at = rank(name.tap)
            if at is not None and at[0] in most:
                most[at[0]] = max(most[at[0]], at[1] + 1)
        return most[VISION_BLOCK], most[DECODER_BLOCK]

    @cached_property
    def mask(self) -> np.ndarray | None:
        """Take the attention mask, (B, T): A's, else B's."""
        return self.given("inputs/attention_mask")

    @cached_property
    def tokens(self) -> int | None:
        """Take the prompt's length, T."""
        for path in (
            "inputs/attention_mask",
            "inputs/input_ids",
            "inputs/token_type_ids",
        ):
            x = self.given(path)
            if x is not None:
                return x.shape[-1]
        return None

    def given(self, path: str) -> np.ndarray | None:
        """Read an input from the side that has it, with its batch axis."""
        side = next((t for t in (self.a, self.b) if path in t), None)
        if side is None:
            return None
        return np.atleast_2d(side.read(path))


@dataclass(frozen=True)
class Comparison:
    """What came out."""

    pair: Pair
    rows: list[Row]
    only_a: list[str]
    only_b: list[str]
    odd: list[str] = field(default_factory=list)  # names that are no tap, and why

    @cached_property
    def first(self) -> Row | None:
        """Take the first row in the model's order that leaves its tolerance."""
        return next((row for row in self.rows if not row.agrees), None)

    @property
    def agree(self) -> bool:
        """Whether every tap that both have agrees."""
        return self.first is None


def compare(a: str, b: str) -> Comparison:
    """Compare two traces.

    Parameters
    ----------
    a, b : str
        Files, safetensors or npz; names are our taps' or modules of Hugging Face's.

    Raises
    ------
    ValueError
        In one line: a file cannot be read, they are traces of unlike things, or they
        have no name in common.
    """
    pair = Pair(*traces(a, b))
    check_alike(pair.a, pair.b)
    if not any(not name.tap.startswith("inputs/") for name in pair.shared):
        msg = f"{a} and {b} have no tap in common: {_some(pair.a)} and {_some(pair.b)}"
        raise ValueError(msg + "; expected our paths, or Hugging Face's module paths")
    rows = [_row(pair, name, pair.grain) for name in pair.shared]
    named = (*pair.a.names.values(), *pair.b.names.values())
    return Comparison(
        pair,
        rows,
        [path for path in pair.a.held if path not in pair.b],
        [path for path in pair.b.held if path not in pair.a],
        sorted({f"{name.tap}: {name.why}" for name in named if name.why}),
    )


def _some(trace: Trace) -> str:
    """Show how a trace's names look."""
    names = [held.name for held in trace.held.values()]
    tap = next((n for n in names if not n.startswith("inputs/")), names[0])
    return f"{tap!r} among {len(names)} names"


def _row(pair: Pair, name: Name, grain: str) -> Row:
    """Compare one tap of both sides, which have a dtype's digits."""
    a, b = pair.a.read(name.path), pair.b.read(name.path)
    aligned = prepared(pair, name, a, b)
    exact = name.tap.endswith(EXACT) or a.dtype.kind in "ib"
    depths, tokens = pair.depths, pair.tokens or 0
    allowed = 0.0 if exact else tolerance(name.tap, grain, depths, tokens)
    if aligned is None:
        told = (f"shapes {a.shape} and {b.shape} cannot be brought together",)
        return Row(name.path, np.inf, allowed, told, a.shape)
    a, b = (real_rows(pair, name, x) for x in aligned[:2])
    return Row(name.path, relative_error(a, b), allowed, aligned.notes, aligned.a.shape)


def prepared(pair: Pair, name: Name, a: np.ndarray, b: np.ndarray) -> Aligned | None:
    """Bring a tap's arrays to one layout; scores without what was masked or padded."""
    aligned = align(name.tap, a, b, pair.tokens)
    if aligned is None or not name.tap.endswith("attention/scores"):
        return aligned
    shown = without_hidden(*aligned[:2])
    a, b = (_without_padded_keys(pair, name, x) for x in shown[:2])
    return Aligned(a, b, aligned.notes + shown.notes)


def _without_padded_keys(pair: Pair, name: Name, x: np.ndarray) -> np.ndarray:
    """Blank the columns of padded keys, whose scores nobody looks at."""
    mask = pair.mask
    if mask is None or name.tap.startswith("vision/") or x.shape[0] != len(mask):
        return x
    more = x.shape[-1] - mask.shape[1]
    if more < 0 or mask.all():
        return x
    seen = np.pad(mask, ((0, 0), (0, more)), constant_values=1) != 0
    return np.where(seen[:, None, None, :], x, 0)


def real_rows(pair: Pair, name: Name, x: np.ndarray) -> np.ndarray:
    """Take the rows of real tokens; pictures, and the words of decode steps, are all.

    (B, T, …) or (B, N, T, …) -> (rows, …), where the trace carries a mask.
    """
    mask = pair.mask
    if mask is None or name.step or not name.tap.startswith(PADDED):
        return x
    by_token = x if x.ndim == 3 else np.swapaxes(x, 1, 2) if x.ndim == 4 else None
    if by_token is None or by_token.shape[:2] != mask.shape:
        return x
    return by_token[mask != 0]


def relative_error(a: np.ndarray, b: np.ndarray) -> float:
    """Measure the largest difference against A's largest number.

    Where only one side has NaN or infinity, or all of A is nought and B is not, the
    error is infinite; the same infinities on both sides are no difference.
    """
    if a.shape != b.shape:
        return np.inf
    if a.dtype.kind in "ib":
        return float(np.any(a != b))
    with np.errstate(all="ignore"):
        off = np.abs(a - b)
        off = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0, off)
        scale = np.max(np.abs(a), initial=0, where=np.isfinite(a))
    worst = float(np.max(off, initial=0))
    if not np.isfinite(worst):
        return np.inf
    if not worst:
        return 0.0
    return float(worst / scale) if scale else np.inf
