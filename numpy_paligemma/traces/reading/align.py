"""Two arrays of one tap brought to one layout, and what had to be done said.

Ours are (B, T, D), and (B, N, T, H) where there are heads. Others leave the batch out,
keep heads merged or behind the tokens, channels in front of places, or repeat the keys'
heads. Arrays of one shape are taken as they are: a layout is never guessed at to make a
difference go away.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

MASKS = ("fusion/mask", "fusion/window_mask")
HEADED = ("q", "k", "v", "q_proj", "k_proj", "v_proj", "scores", "probs")
HIDDEN = -1e8  # scores below it were masked when they were written


class Aligned(NamedTuple):
    """Both arrays in one layout, as ours have it where that is known."""

    a: np.ndarray
    b: np.ndarray
    notes: tuple[str, ...] = ()


class Form(NamedTuple):
    """An array in another layout, and what was done to it."""

    x: np.ndarray
    told: str


def is_headed(tap: str) -> bool:
    """Tell a tap with heads, (B, N, T, H)."""
    return "/attention/" in tap and tap.rpartition("/")[2] in HEADED


def align(tap: str, a: np.ndarray, b: np.ndarray, tokens: int | None) -> Aligned | None:
    """Bring two arrays of a tap to one shape; None where no layout does.

    Parameters
    ----------
    tap : str
    a, b : arrays
    tokens : int, optional
        The length of the prompt, T, where it is known.
    """
    if tap.endswith(MASKS):
        return _masks(a, b)
    if a.shape == b.shape and a.ndim != 4:
        return Aligned(a, b)
    if a.shape == b.shape:
        return _tokens_third(tap, a, b, tokens)
    pairs = [
        Aligned(fa.x, fb.x, _notes(fa, fb))
        for fa in _forms(tap, a, b.shape)
        for fb in _forms(tap, b, a.shape)
        if fa.x.shape == fb.x.shape
    ]
    best = min(pairs, key=_cost, default=None)
    return best and _tokens_third(tap, best.a, best.b, tokens, best.notes)


def _notes(fa: Form, fb: Form) -> tuple[str, ...]:
    """Say what was done to which side."""
    return tuple(f"{side}: {f.told}" for side, f in (("A", fa), ("B", fb)) if f.told)


def _cost(pair: Aligned) -> tuple[float, int]:
    """Prefer the layout in which the numbers are alike, then the plainer one."""
    a, b = pair.a.astype(np.float64), pair.b.astype(np.float64)
    with np.errstate(all="ignore"):
        off = np.max(np.abs(a - b), initial=0)
        scale = np.max(np.abs(a), initial=0) or 1.0
    share = float(off / scale)
    return (round(share, 2) if np.isfinite(share) else 9.0, len("".join(pair.notes)))


def _tokens_third(
    tap: str,
    a: np.ndarray,
    b: np.ndarray,
    tokens: int | None,
    notes: tuple[str, ...] = (),
) -> Aligned:
    """Put heads before tokens where both sides have them behind, (B, T, N, H)."""
    behind = a.ndim == 4 and is_headed(tap) and tokens == a.shape[1] != a.shape[2]
    if behind and not tap.endswith(("scores", "probs")):
        return Aligned(a.swapaxes(1, 2), b.swapaxes(1, 2), notes)
    return Aligned(a, b, notes)


def _forms(tap: str, x: np.ndarray, other: tuple[int, ...]) -> Iterator[Form]:
    """List what an array could be in our layout, itself first."""
    yield Form(x, "")
    plain = x.reshape([n for n in x.shape if n != 1] or [1])
    if plain.ndim < x.ndim:
        yield from _without_batch(tap, plain, other, "axes of one left out")
    yield from _without_batch(tap, x, other, "")


def _without_batch(
    tap: str, x: np.ndarray, other: tuple[int, ...], told: str
) -> Iterator[Form]:
    """List the layouts of an array with and without a batch axis."""
    rank = 4 if is_headed(tap) or tap.endswith("pixel_values") else 3
    yield from _with_batch(tap, x, other, told)
    if x.ndim < rank:
        said = [told or "no batch axis"]
        for form in _with_batch(tap, x[None], other, ""):
            yield Form(form.x, ", ".join([*said, form.told] if form.told else said))


def _with_batch(
    tap: str, x: np.ndarray, other: tuple[int, ...], told: str
) -> Iterator[Form]:
    """List the layouts of an array that has its batch axis."""
    yield Form(x, told)
    made = _headed(x, other) if is_headed(tap) else _flat(tap, x, other)
    for form in made:
        yield Form(form.x, ", ".join(t for t in (told, form.told) if t))


def _headed(x: np.ndarray, other: tuple[int, ...]) -> Iterator[Form]:
    """List (B, N, T, H) from merged, swapped, grouped or repeated heads."""
    if x.ndim == 3 and len(other) >= 3 and x.shape[2] % other[-1] == 0:
        B, T, _ = x.shape
        split = x.reshape(B, T, -1, other[-1]).swapaxes(1, 2)
        yield Form(split, "heads merged")
    if x.ndim == 5:
        B, K, G, T, S = x.shape
        yield Form(x.reshape(B, K * G, T, S), "heads in groups")
    if x.ndim != 4:
        return
    yield Form(x.swapaxes(1, 2), "heads behind the tokens")
    yield Form(x.swapaxes(2, 3), "last two axes swapped")
    for y, told in ((x, ""), (x.swapaxes(1, 2), "heads behind the tokens, ")):
        K = other[1] if len(other) == 4 else 0
        if K and y.shape[1] > K and y.shape[1] % K == 0:
            G = y.shape[1] // K
            if np.array_equal(y, np.repeat(y[:, ::G], G, 1)):
                yield Form(y[:, ::G], f"{told}each key-value head {G} times")


def _flat(tap: str, x: np.ndarray, other: tuple[int, ...]) -> Iterator[Form]:
    """List (B, T, D) from arrays with channels in front, a grid, or a flat batch."""
    if x.ndim == 3:
        yield Form(x.swapaxes(1, 2), "last two axes swapped")
    if x.ndim == 4 and tap.endswith("pixel_values"):
        yield Form(x.transpose(0, 3, 1, 2), "channels last")
    elif x.ndim == 4:
        B, D = x.shape[:2]
        yield Form(x.reshape(B, D, -1).swapaxes(1, 2), "channels before a grid")
        yield Form(x.reshape(B, -1, x.shape[3]), "places as a grid")
    if x.ndim == 2 and len(other) == 3 and x.shape[0] == other[0] * other[1]:
        yield Form(x.reshape(*other[:2], -1), "batch and places as one axis")
    if tap == "logits" and x.ndim == 3 and x.size:
        yield Form(x[:, -1], "at the last position")
        yield Form(x[:, -1:], "at the last position")


def _masks(a: np.ndarray, b: np.ndarray) -> Aligned | None:
    """Bring two masks to bool (B, 1, T, S): True where a query may look."""
    fa, fb = (_as_mask(x) for x in (a, b))
    try:
        shape = np.broadcast_shapes(fa.x.shape, fb.x.shape)
    except ValueError:
        return None
    a, b = (np.broadcast_to(f.x, shape) for f in (fa, fb))
    return Aligned(a, b, _notes(fa, fb))


def _as_mask(x: np.ndarray) -> Form:
    """Read a mask: True or one where a query may look, or nought where it may."""
    y = x[None, None] if x.ndim == 2 else x[:, None] if x.ndim == 3 else x
    if y.dtype == np.bool_:
        return Form(y, "")
    if y.size and (np.min(y) < 0 or (y.dtype.kind == "f" and not y.any())):
        return Form(y == 0, "what is added to scores")
    return Form(y != 0, "ones and noughts")


def without_hidden(a: np.ndarray, b: np.ndarray) -> Aligned:
    """Leave out of two scores what either side had masked when it wrote them."""
    hidden = [x < HIDDEN for x in (a, b)]
    if not (hidden[0].any() or hidden[1].any()) or a.shape != b.shape:
        return Aligned(a, b)
    sides = " and ".join(s for s, h in zip("AB", hidden, strict=True) if h.any())
    either = hidden[0] | hidden[1]
    a, b = (np.where(either, 0, x) for x in (a, b))
    return Aligned(a, b, (f"{sides}: written after the mask",))
