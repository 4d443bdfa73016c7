"""Causes that two arrays tell by themselves, each tried on every number of them."""

from collections.abc import Callable

import numpy as np

from numpy_paligemma.arrays.formats import round_to_bfloat16, widen_bfloat16
from numpy_paligemma.model.layers import softmax
from numpy_paligemma.traces.compare import relative_error
from numpy_paligemma.traces.evidence.fits import fitted_cap
from numpy_paligemma.traces.evidence.orders import reordered
from numpy_paligemma.traces.evidence.pixel_causes import pixel_cause
from numpy_paligemma.traces.evidence.ratios import ratio_cause
from numpy_paligemma.traces.evidence.scene import Scene
from numpy_paligemma.traces.evidence.view import Found, View
from numpy_paligemma.traces.evidence.where import edge_patches, row_errors
from numpy_paligemma.traces.reading.names import in_block

BIASED = ("q", "k", "v", "out", "embed", "attention_norm", "mlp_norm")
FAINT = (3e-5, 2e-3)  # errors that erf in place of tanh gives at an MLP
FLOAT16 = 65504.0
INNER = 9  # patches inside the edge, so that it is no chance that they agree
MOSTLY = 0.9  # of the numbers are the other's, rounded


def patterns(scene: Scene, *, first: bool) -> Found | None:
    """Hold the arrays against what is known: before a replay is tried, or after it."""
    both = scene.both(scene.name.tap)
    if both is None:
        return Found(
            "shape",
            f"{scene.row.notes[-1] if scene.row.notes else 'no common layout'}: other "
            "sizes, or another layout than heads merged, axes swapped or no batch",
        )
    a, b = (scene.real(x) for x in both)
    view = View(scene, a, b)
    probes: tuple[Callable[[View], Found | None], ...]
    probes = (_inputs, _not_numbers, _noughts) if first else LATER
    return next((found for probe in probes if (found := probe(view))), None)


def _inputs(view: View) -> Found | None:
    """Look at what the model was given."""
    if not view.tap.startswith("inputs/"):
        return None
    if view.tap.endswith("pixel_values"):
        cause, text = pixel_cause(view.a, view.b, view.scene.row.tolerance)
        return Found(cause, text) if cause else None
    said = {
        "inputs/attention_mask": ("padding", "the sides call other places padding"),
        "inputs/token_type_ids": (
            "token types",
            (
                "the sides call other places prefix and answer; transformers makes all "
                "causal where it is given none"
            ),
        ),
    }
    return Found(*said[view.tap]) if view.tap in said else None


def _not_numbers(view: View) -> Found | None:
    """Look for NaN and infinity on one side."""
    if view.a.dtype.kind != "f":
        return None
    bad = [~np.isfinite(x) for x in (view.a, view.b)]
    if not (bad[0] ^ bad[1]).any():
        return None
    side = int((bad[1] & ~bad[0]).any())
    x, other = (view.a, view.b)[side], (view.b, view.a)[side]
    n, kind = int(bad[side].sum()), "NaN" if np.isnan(x).any() else "infinity"
    text = f"{'AB'[side]} has {kind} at {n} of {x.size} places where the other has none"
    largest = float(np.max(np.abs(other), initial=0, where=np.isfinite(other)))
    if largest > FLOAT16:
        text += f"; the other goes up to {largest:.3g}, beyond float16's {FLOAT16:g}"
    return Found("not a number", text)


def _noughts(view: View) -> Found | None:
    """Look for a side that is nought everywhere."""
    for side, x, other in (("A", view.a, view.b), ("B", view.b, view.a)):
        if x.dtype.kind == "f" and x.size and not np.any(x) and np.any(other):
            return Found("all noughts", f"{side} is nought everywhere: never filled")
    return None


def _ratio(view: View) -> Found | None:
    """Look for a constant ratio, of all rows or of the picture's or the text's."""
    c = view.scene.model(0)[1]
    ids = view.scene.pair.given("inputs/input_ids")
    mask = view.scene.pair.mask
    is_image = None
    if ids is not None and mask is not None and ids.shape == mask.shape:
        is_image = (ids == c.image_token_id)[mask != 0]
    told = ratio_cause(view.tap, view.a, view.b, c, is_image, view.scene.row.tolerance)
    return Found(*told) if told else None


def _offset(view: View) -> Found | None:
    """Look for the same vector added at every place."""
    if in_block(view.tap).rpartition("/")[2] not in BIASED or view.a.ndim < 2:
        return None
    both = view.scene.both(view.tap)
    if both is None:
        return None
    off = both[1] - both[0]
    if off.ndim == 4:  # (B, N, T, H): a vector for each head
        off = off.swapaxes(1, 2)
        off = off.reshape(*off.shape[:2], -1)
    flat = off.reshape(-1, off.shape[-1])
    if len(flat) < 3 or not view.same(view.a, view.a + 0 * view.b):
        return None
    moved = both[0] + _like(both[0], flat.mean(axis=0))
    if not view.explains(view.scene.real(moved), view.scene.real(both[1])):
        return None
    return Found(
        "bias",
        "the sides differ by the same vector at every place: a bias that one lacks, has "
        "twice, or has from elsewhere",
    )


def _like(x: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Shape one place's numbers as an array has them, (…, D) or (B, N, T, H)."""
    return vector if x.ndim == 3 else vector.reshape(x.shape[1], 1, x.shape[3])


def _rounded(view: View) -> Found | None:
    """Look for one side that is the other, rounded."""
    if view.a.dtype.kind != "f":
        return None
    for side, x, y in (("B", view.a, view.b), ("A", view.b, view.a)):
        for name, rounding in ROUNDINGS.items():
            coarse = rounding(x)
            so = np.array_equal(rounding(y), y) and relative_error(coarse, y) < 2**-8
            if so and np.mean(coarse == y) > MOSTLY and not np.array_equal(x, coarse):
                return Found("precision", f"{side} is the other, rounded to {name}")
    return None


def _bfloat16(x: np.ndarray) -> np.ndarray:
    return widen_bfloat16(round_to_bfloat16(x)).reshape(x.shape).astype(x.dtype)


def _float16(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float16).astype(x.dtype)


ROUNDINGS = {"bfloat16": _bfloat16, "float16": _float16}


def _logits(view: View) -> Found | None:
    """Look for logits that were normalised or not capped."""
    if view.tap != "logits" or view.a.ndim < 2:
        return None
    for one, x, other, y in (("A", view.a, "B", view.b), ("B", view.b, "A", view.a)):
        off = y - x
        if view.explains(x + off.mean(axis=-1, keepdims=True), y):
            return Found(
                "logits normalised",
                f"{other} is {one} less one number a row: log-probabilities",
            )
        if view.explains(softmax(x), y):
            return Found("probabilities for logits", f"{other} is the softmax of {one}")
        cap = fitted_cap(x, y)
        if cap is not None and view.explains(cap * np.tanh(x / cap), y):
            if np.max(np.abs(x)) > cap:
                text = f"{one} lacks the cap of {cap:g} that {other} has"
                return Found("logit cap left out", text)
            text = f"{other} is {one}, capped at {cap:g} (once more, if {one} is, too)"
            return Found("logit cap", text)
    return None


def _step(view: View) -> Found | None:
    """Look for a decode step that is another one of the other side."""
    scene = view.scene
    n, pair = scene.name.step, scene.pair
    if not n:
        return None
    for other, told in ((n + 1, "the next"), (n - 1, "the one before")):
        path = f"step{other:03}/{view.tap}"
        for side, here, there in (("B", view.b, pair.a), ("A", view.a, pair.b)):
            if other and path in there and view.explains(there.read(path), here):
                text = f"{side}'s step {n} is {told} of the other: shifted by one step"
                return Found("shifted by one step", text)
    return None


def _edges(view: View) -> Found | None:
    """Look for a picture of which only the edge differs."""
    if view.tap != "vision/embed" or "inputs/pixel_values" in view.scene.agreed:
        return None  # equal pixels were resized alike
    off = row_errors(view.scene)
    edge = None if off is None else edge_patches(off.shape[1])
    if off is None or edge is None or (~edge).sum() < INNER:
        return None
    scale = float(np.max(np.abs(view.a), initial=0)) or 1.0
    if off[:, ~edge].max() > view.scene.row.tolerance * scale:
        return None
    return Found(
        "resize at the edges",
        "only patches at the edge differ: the resize treats edges otherwise",
    )


def _harmless(view: View) -> Found | None:
    """Look at places of the text that the picture overwrites."""
    ids, mask = view.scene.pair.given("inputs/input_ids"), view.scene.pair.mask
    if (
        view.tap != "decoder/embed"
        or ids is None
        or mask is None
        or ids.shape != mask.shape
    ):
        return None
    text = (ids != view.scene.model(0)[1].image_token_id)[mask != 0]
    if len(text) != len(view.a) or not view.same(view.a[text], view.b[text]):
        return None
    return Found(
        "places of the picture",
        "only the text embedding at <image> places differs, which the picture "
        "overwrites: harmless",
    )


def _faint_mlp(view: View) -> Found | None:
    """Look for the small error of erf in GELU, where no weights can prove it."""
    scene = view.scene
    norm = view.tap.removesuffix("/out").removesuffix("/mlp") + "/mlp_norm"
    low, high = FAINT
    if not view.tap.endswith("/mlp/out") or norm not in scene.agreed:
        return None
    if scene.loaded is not None or not low <= scene.row.error <= high:
        return None
    off = view.b - view.a
    flat, a = off.reshape(-1, off.shape[-1]), view.a.reshape(-1, off.shape[-1])
    size = np.sqrt(np.mean(flat**2, axis=1))
    even = (
        len(size) > 3
        and size.min() > 0.15 * np.median(size)
        and size.max() < 4 * np.median(size)
    )
    aligned = abs(np.sum(flat * a)) > 0.5 * np.sqrt(np.sum(flat**2) * np.sum(a**2))
    coarse = any(
        np.array_equal(_bfloat16(x), x) or np.array_equal(_float16(x), x)
        for x in (view.a, view.b)
    )
    if not even or aligned or coarse:
        return None
    return Found(
        "erf GELU",
        "a small error, everywhere alike, from this MLP on: as of the exact GELU (erf) "
        "where the tanh form is due. Only the checkpoint can prove it: give it as --model",
    )


LATER: tuple[Callable[[View], Found | None], ...] = (
    _harmless,
    _ratio,
    _offset,
    _rounded,
    reordered,
    _logits,
    _step,
    _edges,
    _faint_mlp,
)
