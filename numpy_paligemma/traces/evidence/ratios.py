"""A constant ratio between two arrays, and which scale it is."""

import math

import numpy as np

from numpy_paligemma.model.config import PaliGemmaConfig
from numpy_paligemma.traces.causes.bridge import rounded_root
from numpy_paligemma.traces.compare import relative_error

NAMED, COARSE = 1e-4, 1e-3  # how near a ratio must be to a named number; in bfloat16
CLEAR = 16  # how many times smaller the error is that a ratio leaves
CAUSES = {
    ("decoder/embed", "√D"): "text scale applied twice",
    ("decoder/embed", "1/√D"): "text scale left out",
    ("decoder/embed", "√D rounded to bfloat16, over √D"): "text scale rounded",
    ("decoder/embed", "√D over √D rounded to bfloat16"): "text scale rounded",
    ("projector/out", "√D"): "picture scaled",
    ("projector/out", "1/√D"): "picture scaled",
    ("logits", "√D"): "head scaled",
    ("logits", "1/√D"): "head scaled",
}


def ratio_cause(
    tap: str,
    a: np.ndarray,
    b: np.ndarray,
    c: PaliGemmaConfig,
    is_image: np.ndarray | None,
    allowed: float,
) -> tuple[str, str] | None:
    """Say which constant factor explains a difference; None where none does.

    Parameters
    ----------
    tap : str
    a, b : float arrays, the rows that are compared
    c : PaliGemmaConfig
    is_image : bool array, (rows,), optional
        Which rows of the sequence are the picture's.
    allowed : float
    """
    if a.dtype.kind != "f" or a.shape != b.shape or a.size < 3:
        return None
    whole = ratio(a, b, allowed)
    if whole is not None:
        named = _named(whole, tap, c, allowed)
        return _cause(tap, named), f"B is {_told(whole, named)} times A everywhere"
    if tap != "fusion/out" or is_image is None or len(is_image) != len(a):
        return None
    for rows, of, cause in (
        (is_image, "the picture's rows", "picture scaled"),
        (~is_image, "the text's rows", ""),
    ):
        part = ratio(a[rows], b[rows], allowed)
        if part is not None and relative_error(a[~rows], b[~rows]) <= allowed:
            named = _named(part, "decoder/embed", c, allowed)
            return cause or _cause(
                "decoder/embed", named
            ), f"of {of} alone, B is {_told(part, named)} times A"
    return None


def ratio(a: np.ndarray, b: np.ndarray, allowed: float) -> float | None:
    """Fit b = r · a over all numbers; None where that leaves more than is allowed."""
    square = float(np.sum(a * a))
    if not square or not np.isfinite(square):
        return None
    r = float(np.sum(a * b)) / square
    left = relative_error(b, r * a)
    clear = left * CLEAR <= relative_error(a, b)
    return r if r and clear and left <= allowed < abs(r - 1) else None


def _named(r: float, tap: str, c: PaliGemmaConfig, allowed: float) -> str:
    """Name a factor by the sizes of the model: the nearest, if it is near."""
    known = _numbers(tap, c)
    name, value = min(known.items(), key=lambda item: round(abs(item[1] / r - 1), 9))
    grain = min(max(NAMED, allowed / 32), COARSE)
    near = grain if "rounded" not in name else abs(value - 1) / 20
    return name if abs(value / r - 1) <= near else ""


def _numbers(tap: str, c: PaliGemmaConfig) -> dict[str, float]:
    """List the factors that people leave out or apply twice."""
    eye = tap.startswith("vision")
    s = c.vision if eye else c.text
    D, N, H = s.width, s.heads, s.head_dim
    roots = {"√D": D, "√H": H, "√N": N, "√(D/N)": D / N, "√(N·H)": N * H}
    scales = {name: math.sqrt(value) for name, value in roots.items() if value > 1}
    numbers = {"2": 2.0, "1/2": 0.5, "-1": -1.0, "1/√2": 0.5**0.5}
    numbers |= scales | {f"1/{name}": 1 / value for name, value in scales.items()}
    numbers |= {"H": float(H), "1/H": 1 / H}
    root = math.sqrt(D)
    if tap == "decoder/embed" and (off := rounded_root(D) / root) != 1:
        numbers["√D rounded to bfloat16, over √D"] = off
        numbers["√D over √D rounded to bfloat16"] = 1 / off
    return numbers


def _cause(tap: str, named: str) -> str:
    """Name the cause of a factor at a tap."""
    if tap.endswith("scores"):
        return "score scale"
    if tap == "fusion/out":
        return "picture and text scaled"
    return CAUSES.get((tap, named), "scale")


def _told(r: float, named: str) -> str:
    return f"{r:.6g} ({named})" if named else f"{r:.6g}"
