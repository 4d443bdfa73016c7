"""The golden comparison catches the field's classic errors, each at its own tap."""

import pytest
from golden_line import NAMES, Golden, golden_errors, load_golden
from mistakes import MISTAKES, Mistake
from tolerances import (
    FLOAT32_TAPS,
    FLOAT64,
    SMALLEST_MISTAKE,
    SMALLEST_MISTAKE_FLOAT32,
)

from numpy_paligemma.model.fusion import positions_of

each_mistake = pytest.mark.parametrize(
    "mistake", MISTAKES, ids=lambda m: m.twin.__name__
)


@pytest.fixture(scope="module")
def golden() -> dict[str, Golden]:
    """Load the models with two kv heads and a padded batch: they show every mistake."""
    both = [(name, d) for name in NAMES for d in ("float64", "float32")]
    return {f"{name}, {d}": load_golden(name, d) for name, d in both}


def errors_with(
    mistake: Mistake, golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> dict[str, float]:
    """Walk the line with the wrong twin in its place."""
    monkeypatch.setattr(f"numpy_paligemma.{mistake.replaces}", mistake.twin)
    return golden_errors(golden)


def first_beyond(tolerance: float, errors: dict[str, float]) -> str | None:
    """Name the first tap that leaves the tolerance; NaN does, too."""
    return next((tap for tap, e in errors.items() if not e <= tolerance), None)


@each_mistake
def test_float64_shows_the_mistake_where_it_is_made(
    mistake: Mistake, golden: dict[str, Golden], monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = errors_with(mistake, golden[f"{mistake.model}, float64"], monkeypatch)
    assert first_beyond(FLOAT64, errors) == mistake.first
    assert errors[mistake.first] >= SMALLEST_MISTAKE


@each_mistake
def test_float32_shows_the_mistake_unless_it_is_faint(
    mistake: Mistake, golden: dict[str, Golden], monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = errors_with(mistake, golden[f"{mistake.model}, float32"], monkeypatch)
    if mistake.faint:
        assert errors[mistake.first] < SMALLEST_MISTAKE_FLOAT32
    else:
        assert first_beyond(FLOAT32_TAPS, errors) == mistake.first
        assert errors[mistake.first] >= SMALLEST_MISTAKE_FLOAT32


def test_counting_positions_from_nought_is_no_mistake(
    golden: dict[str, Golden], monkeypatch: pytest.MonkeyPatch
) -> None:
    """RoPE sees differences alone: queries and keys turn, their products do not."""
    monkeypatch.setattr(
        "numpy_paligemma.model.pipeline.positions_of", lambda m: positions_of(m) - 1
    )
    errors = golden_errors(golden["two_kv_heads, float64"])
    moved = {tap for tap, e in errors.items() if not e <= FLOAT64}
    rotated = ("decoder/block00/attention", "decoder/block01/attention")
    passes = ("", "prefill/", "step1/", "step2/")
    assert moved == {f"{p}{r}/{x}" for p in passes for r in rotated for x in "qk"}
