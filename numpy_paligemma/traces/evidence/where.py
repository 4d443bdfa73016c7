"""Where a difference shows: which rows, and how it goes on along them."""

import numpy as np

from numpy_paligemma.traces.evidence.scene import Scene

SHARE = 0.02  # of the largest error: below it a row counts as right
RISING = 0.8  # rank correlation with the position that is called growing
SMALL = 1e-3


def row_errors(scene: Scene) -> np.ndarray | None:
    """Take the largest error of every token, (B, T), padded ones nought."""
    both = scene.both(scene.name.tap)
    if both is None or both[0].shape != both[1].shape or both[0].ndim not in {3, 4}:
        return None
    a, b = (x.astype(np.float64) for x in both)
    off = np.abs(a - b)
    off = np.where(np.isnan(off), np.inf, off)
    off = off.max(axis=-1) if a.ndim == 3 else off.max(axis=(1, 3))  # (B, T)
    mask = scene.pair.mask
    padded = mask is not None and not scene.name.step and off.shape == mask.shape
    in_text = scene.name.tap.startswith(("decoder", "fusion", "logits"))
    return np.where(mask != 0, off, 0) if padded and in_text else off


def where(scene: Scene) -> str:
    """Say where the first difference shows, when nothing is known of its cause."""
    error = scene.row.error
    said = [f"no known mistake gives this error ({error:.1e}) to rounding"]
    off = row_errors(scene)
    if off is not None and np.isfinite(off).all() and off.max() > 0:
        said += _of_rows(scene, off)
    if scene.loaded is None:
        said.append(
            "the checkpoint is not at hand, so steps with weights could not be replayed: "
            "give it as --model"
        )
    return "; ".join(said)


def _of_rows(scene: Scene, off: np.ndarray) -> list[str]:
    """Describe the rows that differ."""
    wrong = off > SHARE * off.max()
    said = []
    groups = _groups(scene, off)
    for name, rows in groups.items():
        inside = wrong & rows
        if wrong.any() and inside.sum() == wrong.sum() and not rows.all():
            said.append(f"only {name} differ")
    if len(off) > 1 and 0 < (n := int(wrong.any(axis=1).sum())) < len(off):
        said.append(f"{n} of {len(off)} rows of the batch differ")
    if _rises(scene, off):
        said.append("the error grows with position")
    if not said:
        said.append(f"{wrong.mean():.0%} of the places differ")
    return said


def _groups(scene: Scene, off: np.ndarray) -> dict[str, np.ndarray]:
    """Name groups of rows: picture, text, answer, padded prompts, edges of the picture."""
    groups: dict[str, np.ndarray] = {}
    ids, types = (
        scene.pair.given(f"inputs/{n}") for n in ("input_ids", "token_type_ids")
    )
    mask = scene.pair.mask
    if scene.name.tap.startswith(("vision", "projector")):
        edge = edge_patches(off.shape[1])
        return (
            {}
            if edge is None
            else {"patches at the edge": np.broadcast_to(edge, off.shape)}
        )
    if mask is not None and mask.shape == off.shape and not mask.all():
        padded = ~mask.astype(bool).all(axis=1, keepdims=True)
        groups["rows of padded prompts"] = np.broadcast_to(padded, off.shape)
    if ids is not None and ids.shape == off.shape:
        is_image = ids == scene.model(0)[1].image_token_id
        groups |= {"rows of the picture": is_image, "rows of text": ~is_image}
    if types is not None and types.shape == off.shape and types.any():
        groups |= {"rows of the answer": types != 0, "rows of the prefix": types == 0}
    return groups


def edge_patches(patches: int) -> np.ndarray | None:
    """Mark the outermost patches of a square picture, (P,)."""
    side = round(patches**0.5)
    if side * side != patches or side < 3:
        return None
    edge = np.ones((side, side), bool)
    edge[1:-1, 1:-1] = False
    return edge.reshape(-1)


def _rises(scene: Scene, off: np.ndarray) -> bool:
    """Tell an error that grows along the tokens: by the order of eight parts."""
    if scene.name.step or not scene.name.tap.startswith("decoder") or off.shape[1] < 8:
        return False
    mask = scene.pair.mask
    line = off[0] if mask is None or mask.shape != off.shape else off[0][mask[0] != 0]
    parts = np.array([part.mean() for part in np.array_split(line, 8)])
    order = np.argsort(np.argsort(parts))
    return bool(np.corrcoef(order, np.arange(8))[0, 1] > RISING)
