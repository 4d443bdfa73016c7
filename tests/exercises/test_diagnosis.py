"""Known mistakes are named, in a layer and in the blocks that call it."""

import inspect
from functools import partial
from typing import Any

import numpy as np
import pytest
from mistakes import Mistake
from tolerances import SMALLEST_EXERCISE_MISTAKE

from exercises.checks import examine
from exercises.compare import difference
from exercises.diagnosis import (
    MISTAKES_ON_THE_LADDER,
    called,
    known_mistakes,
    replaced,
)
from exercises.ladder import HOME, LADDER
from numpy_paligemma.model.layers import rms_norm
from numpy_paligemma.model.tap import no_tap

MISTAKES_OF_A_LAYER = [m for m in MISTAKES_ON_THE_LADDER if replaced(m) in LADDER]
MISTAKES_IN_A_BLOCK = [
    m
    for m in MISTAKES_ON_THE_LADDER
    if m.replaces.startswith(("model.gemma.", "model.siglip."))
    and replaced(m) not in {"cut_patches", "rope_table"}  # before the blocks
]


def name_of(mistake: Mistake) -> str:
    return mistake.twin.__name__


@pytest.mark.parametrize("mistake", MISTAKES_OF_A_LAYER, ids=name_of)
def test_each_wrong_twin_is_named(mistake: Mistake) -> None:
    layer, twin = replaced(mistake), mistake.twin
    if "tap" in inspect.signature(twin).parameters:
        twin = partial(twin, tap=no_tap)
    assert (mistake, True) in known_mistakes(layer, twin)
    finding = examine(layer, {layer: twin})
    assert finding.verdict == "wrong"
    # two of gelu's are the same function, one for each tower
    assert f"(from: {mistake.origin})" in finding.text or layer == "gelu"


@pytest.mark.parametrize("mistake", MISTAKES_IN_A_BLOCK, ids=name_of)
def test_a_mistake_inside_a_block_is_named(mistake: Mistake) -> None:
    block = "gemma_block" if ".gemma." in mistake.replaces else "siglip_block"
    ours = getattr(HOME[block], block)

    def theirs(*arguments: Any) -> np.ndarray:
        with pytest.MonkeyPatch.context() as swap:
            swap.setattr(f"numpy_paligemma.{mistake.replaces}", mistake.twin)
            return ours(*arguments)

    finding = examine(block, {block: theirs})
    assert '; this is "' in finding.text
    assert (mistake, True) in known_mistakes(block, theirs)
    cases = LADDER[block].values()
    sizes = [difference(called(case, theirs), called(case, ours)) for case in cases]
    assert max(sizes) >= SMALLEST_EXERCISE_MISTAKE


def test_one_mistake_of_two_is_named_in_part() -> None:
    def off_by_an_eps_as_well(x: np.ndarray, w: np.ndarray, eps: float) -> np.ndarray:
        return rms_norm(x, w - 1, max(eps, 1e-3))

    finding = examine("rms_norm", {"rms_norm": off_by_an_eps_as_well})
    assert '; in part this is "gain is w and not one plus w"' in finding.text


def test_an_unknown_mistake_is_given_no_name() -> None:
    finding = examine("gelu", {"gelu": np.tanh})
    assert finding.verdict == "wrong"
    assert "this is" not in finding.text
