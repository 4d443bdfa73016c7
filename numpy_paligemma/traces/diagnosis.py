"""The likely cause of the first difference, from what both traces hold around it.

A cause is named where it has been tried: the step between the last taps that agree and
the first that does not is run again with every known mistake in it, on each side's own
numbers, and the one is taken that gives what the side shows, to rounding. Where the
weights are not at hand (`--model` gives them) the steps without weights are run, and
the arrays themselves are held against what is known: a ratio, an offset, an order.
What explains nothing to rounding is unknown, with where it shows.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from numpy_paligemma.traces.causes import VARIANTS
from numpy_paligemma.traces.causes.norms import ONE_FORGOTTEN, TWICE_ONE
from numpy_paligemma.traces.causes.rotation import measured
from numpy_paligemma.traces.causes.variant import Setup, Variant
from numpy_paligemma.traces.compare import Comparison, relative_error
from numpy_paligemma.traces.evidence.patterns import patterns
from numpy_paligemma.traces.evidence.replay import Part, replay, template
from numpy_paligemma.traces.evidence.scene import Scene
from numpy_paligemma.traces.evidence.telling import told
from numpy_paligemma.traces.evidence.view import Found
from numpy_paligemma.traces.evidence.where import where
from numpy_paligemma.traces.reading.names import NUMBER, rank

UNKNOWN = "unknown"
ROTATED = ("decoder/block/attention/q", "decoder/block/attention/k")
FURTHER = 2  # blocks behind the first difference
CLEAR = 4  # how many times smaller an explained error is than the unexplained one


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A cause, and what speaks for it."""

    cause: str
    text: str


@dataclass(frozen=True, slots=True)
class Trial:
    """A mistake replayed, and how far what it gives is from what a side shows."""

    variant: Variant
    error: float
    x: np.ndarray


def diagnose(comparison: Comparison, checkpoint: str = "") -> Diagnosis | None:
    """Name the likely cause of the first difference; None where there is none.

    Parameters
    ----------
    comparison : Comparison
    checkpoint : str
        A folder, an `.npz` or "miniature", in place of what the traces name.
    """
    row = comparison.first
    if row is None:
        return None
    scene = Scene(comparison, row, checkpoint)
    with np.errstate(all="ignore"):
        found = _by_arrays_first(scene) or _by_replay(scene) or _by_arrays(scene)
        if found is not None:
            return Diagnosis(found.cause, found.text)
        return Diagnosis(UNKNOWN, where(scene))


def _by_arrays_first(scene: Scene) -> Found | None:
    """Look for what no replay explains: inputs, shapes, numbers that are none."""
    return patterns(scene, first=True)


def _by_arrays(scene: Scene) -> Found | None:
    """Look at the arrays alone."""
    return patterns(scene, first=False)


def _by_replay(scene: Scene) -> Found | None:
    """Run the step again, each side taken for the right one in turn."""
    if not scene.name.known or scene.both(scene.name.tap) is None:
        return None
    for right in (0, 1):
        found = _replayed(scene, right)
        if found is not None:
            return found
    return None


def _replayed(scene: Scene, right: int) -> Found | None:
    """Look for the mistake of the other side, if this one is right."""
    wrong = 1 - right
    setup = scene.setup(right)
    if _right(scene, right, setup) > scene.allowed:
        return None
    plain = _right(scene, wrong, setup)
    if plain <= scene.allowed:
        return None
    tried = (_trial(scene, wrong, v, setup) for v in _mistakes(scene, wrong, setup))
    fitting = [
        t for t in tried if t and t.error <= scene.allowed and t.error * CLEAR <= plain
    ]
    chosen = _chosen(scene, wrong, fitting, setup)
    if chosen is None:
        return None
    return told(scene, wrong, chosen.variant, left=chosen.error, plain=plain)


def _mistakes(scene: Scene, wrong: int, setup: Setup) -> Iterator[Variant]:
    """List the mistakes that may lie between what agrees and the first difference."""
    for variant in VARIANTS:
        if _may_act(scene, variant) and not _is_mirrored(scene, wrong, variant):
            yield variant
    at, tap = template(scene.name.tap), scene.name.tap
    if at in ROTATED:
        pair = (scene.full(f"{tap}_proj", wrong), scene.full(tap, wrong))
        if pair[0] is not None and pair[1] is not None:
            yield from measured(pair[0], pair[1], setup, at)


def _is_mirrored(scene: Scene, wrong: int, variant: Variant) -> bool:
    """Tell a mistake of A that is, without weights, as well another one of B.

    Two gains one apart say that one side forgot it, or that the other has it twice.
    """
    mirrored = variant.cause in (ONE_FORGOTTEN, TWICE_ONE)
    return mirrored and wrong == 0 and scene.loaded is None


def _chosen(
    scene: Scene, wrong: int, fitting: list[Trial], setup: Setup
) -> Trial | None:
    """Choose among the mistakes that explain the difference; None where they compete.

    Those that give the same here are told apart by what they give in the next blocks.
    """
    best = min(fitting, key=lambda t: t.error, default=None)
    if best is None:
        return None
    alike = [
        t
        for t in fitting
        if relative_error(scene.real(best.x), scene.real(t.x)) <= scene.allowed
    ]
    rivals = [t for t in fitting if t.error <= CLEAR * best.error and t not in alike]
    if any(t.variant.cause != best.variant.cause for t in rivals):
        return None
    if len({t.variant.cause for t in alike}) == 1:
        return best
    further = [_explains_further(scene, wrong, t.variant, setup) for t in alike]
    return alike[int(np.argmax(further))]  # the first of the most


def _explains_further(scene: Scene, side: int, variant: Variant, setup: Setup) -> int:
    """Count the next blocks whose own difference a mistake explains as well."""
    count = 0
    for more in range(1, 1 + FURTHER):
        tap, start = _further(scene.name.tap, more)
        path = scene.path(tap)
        if not start or path not in scene.pair.a or path not in scene.pair.b:
            break
        there = replace(scene, row=replace(scene.row, name=path))
        part = Part(start, tap, scene.part(side).caches)
        x = replay(setup, there.given(side, start), part, variant)
        count += _off(there, side, x) <= scene.allowed
    return count


def _further(tap: str, more: int) -> tuple[str, str]:
    """Name a tap some blocks on, and what goes into that block; else nothing."""
    number = NUMBER.search(tap)
    if not number:
        return tap, ""
    front, end = tap[: number.start()], tap[number.end() :]
    at = int(number[0]) + more
    return f"{front}{at:02}{end}", f"{front}{at - 1:02}/out"


def _right(scene: Scene, side: int, setup: Setup) -> float:
    """Replay the step as it is right: how far that is from what a side shows."""
    given = scene.given(side, scene.name.tap)
    return _off(scene, side, replay(setup, given, scene.part(side)))


def _trial(scene: Scene, side: int, variant: Variant, setup: Setup) -> Trial | None:
    """Replay a mistake."""
    part = scene.part(side)
    given = scene.given(side, _acts_at(part, variant))
    x = replay(setup, given, part, variant)
    return None if x is None else Trial(variant, _off(scene, side, x), x)


def _acts_at(part: Part, variant: Variant) -> str:
    """Say where a mistake first acts in a part: in its first block, or further on."""
    room = variant.at.partition("/")[0]
    number = NUMBER.search(part.start) if part.start.startswith(room) else None
    first = int(number[0]) + 1 if number else 0
    return variant.at.replace("/block/", f"/block{first:02}/")


def _may_act(scene: Scene, variant: Variant) -> bool:
    """Tell whether a mistake can lie between the taps that agree and the first other."""
    if template(scene.name.tap) == variant.at:
        return True
    at = _acts_at(scene.part(0), variant)
    here, end, start = rank(at), rank(scene.name.tap), rank(scene.start)
    if here is None or end is None or here > end or at in scene.agreed:
        return False
    return start is None or here > start


def _off(scene: Scene, side: int, x: np.ndarray | None) -> float:
    """Measure how far a replay is from what a side shows; infinite where it failed."""
    both = scene.both(scene.name.tap)
    if x is None or both is None:
        return np.inf
    shown = both[side]
    if x.shape != shown.shape:
        try:
            x = np.broadcast_to(x, shown.shape)
        except ValueError:
            return np.inf
    if scene.name.tap.endswith("scores"):
        x = np.where(shown == 0, 0, x)
    found = relative_error(scene.real(shown), scene.real(x))
    return np.inf if np.isnan(x).any() and not np.isnan(shown).any() else found
