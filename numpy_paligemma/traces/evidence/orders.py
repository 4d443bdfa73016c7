"""The same numbers in another order."""

from collections.abc import Iterator

import numpy as np

from numpy_paligemma.traces.evidence.view import Found, View

SORTED = 64  # rows of other numbers are alike, too, once they are sorted


def reordered(view: View) -> Found | None:
    """Look for the same numbers in another order."""
    both = view.scene.both(view.tap)
    if both is None or both[0].ndim < 3 or both[0].shape != both[1].shape:
        return None
    a, b = both
    if a.dtype == np.bool_ or view.tap.startswith("inputs/"):
        return None  # two values in another order say nothing; pixels have causes
    for cause, text, x in _orders(view.tap, a):
        if x.shape == b.shape and view.explains(view.scene.real(b), view.scene.real(x)):
            return Found(cause, text)
    ordered = [np.sort(x, axis=-1) for x in (view.a, view.b)]
    if view.explains(ordered[0], ordered[1], SORTED):
        return Found(
            "last axis permuted", "every row has the same numbers in another order"
        )
    return None


def _orders(tap: str, a: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    """List known orders of an array, (B, T, D) or (B, N, T, H)."""
    places = a.ndim - 2
    side = round(a.shape[places] ** 0.5)
    if tap.startswith(("vision", "projector")) and side * side == a.shape[places]:
        order = np.arange(side * side).reshape(side, side).T.reshape(-1)
        yield (
            "patches by column",
            "B's patches are A's, column by column",
            np.take(a, order, places),
        )
    if a.shape[0] > 1:
        yield "rows of the batch", "B's batch is A's in the opposite order", a[::-1]
        yield (
            "first picture for all",
            "every row of B is A's first",
            np.broadcast_to(a[:1], a.shape),
        )
    yield "order turned", "B's places are A's in the opposite order", np.flip(a, places)
    for by in (1, -1):
        yield (
            "shifted by one place",
            "B's places are A's, shifted by one",
            np.roll(a, by, places),
        )
    if a.ndim == 4:
        yield from _orders_of_heads(a)


def _orders_of_heads(a: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    """List known orders of heads and within them, (B, N, T, H)."""
    B, N, T, H = a.shape
    merged = a.swapaxes(1, 2).reshape(B, T, N * H)
    yield (
        "heads cut wrongly",
        "B's heads are cut without a transpose",
        merged.reshape(B, N, T, H),
    )
    yield (
        "heads in another order",
        "B's heads are A's in the opposite order",
        a[:, ::-1],
    )
    inner = merged.reshape(B, T, H, N).transpose(0, 3, 1, 2)
    yield "heads cut wrongly", "B's heads are the inner axis", inner
    if H % 2 == 0:
        halves = np.concatenate([a[..., ::2], a[..., 1::2]], axis=-1)
        pairs = np.stack(np.split(a, 2, axis=-1), axis=-1).reshape(a.shape)
        told = "the head axis is permuted: halves on one side, pairs on the other"
        yield "head axis permuted", told, halves
        yield "head axis permuted", told, pairs
