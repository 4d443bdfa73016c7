"""How a mistake that was found by replay is told."""

from numpy_paligemma.traces.causes.norms import TWICE_ONE
from numpy_paligemma.traces.causes.positions import ALIKE
from numpy_paligemma.traces.causes.variant import Variant
from numpy_paligemma.traces.evidence.scene import Scene
from numpy_paligemma.traces.evidence.view import Found

SIDES = "AB"
QUERIES, KEYS = "attention/q", "attention/k"
APART = "queries and keys counted apart"
GAIN = (
    "norm gain off by one",
    (
        "the gain is one more than the other side's: one is added twice here, or the "
        "other side has w where 1 + w is due; the checkpoint tells which: give it as "
        "--model"
    ),
)


def told(
    scene: Scene, wrong: int, variant: Variant, *, left: float, plain: float
) -> Found:
    """Say what was found, and how well it explains the error.

    Parameters
    ----------
    scene : Scene
    wrong : int
        The side that made the mistake.
    variant : Variant
    left, plain : float
        The error that is left with the mistake, and the error without it.
    """
    cause, text = _named(scene, variant)
    side, to = SIDES[wrong], f"{left:.1e}" if left else "nought"
    return Found(
        cause,
        f"{side}: {text}. (Replayed with this mistake, the step gives what {side} has, "
        f"to {to}; without it, to {plain:.1e}.)",
    )


def _named(scene: Scene, variant: Variant) -> tuple[str, str]:
    """Name a mistake, by what the other taps say where one alone does not decide."""
    cause, text, tap = variant.cause, variant.text, scene.name.tap
    if cause == TWICE_ONE and scene.loaded is None:
        return GAIN
    if not tap.endswith((QUERIES, KEYS)) or tap.startswith("vision/"):
        return cause, text
    if tap.endswith(KEYS) and tap.removesuffix(KEYS) + QUERIES in scene.agreed:
        return APART if cause in ALIKE else cause, f"{text}, in keys alone"
    if cause not in ALIKE or scene.name.step:
        return cause, text
    keys = scene.agrees(tap.removesuffix(QUERIES) + KEYS)
    if keys:
        return APART, f"{text}, in queries alone"
    alike = " if keys are moved alike" if keys is None else ""
    return cause, f"{text}, which changes no score{alike}: RoPE sees distances alone"
