"""The lifts themselves: float32 does not notice them, float64 needs each."""

import numpy as np
import pytest
from tolerances import relative_error

pytest.importorskip("transformers")

from lifting import LIFTS, lifted
from random_models import MODELS, RandomModel, batch, in_float64, transformers_model
from their_taps import their_logits

pytestmark = pytest.mark.parity

UNLIFTED = 1e-9  # what a missing lift leaves; measured 3e-9 to 8e-7, with all 8e-15
models = pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)


@models
def test_float32_is_the_same_to_the_last_bit(model: RandomModel) -> None:
    theirs, inputs = transformers_model(model), batch(model, model.rows)
    plain = their_logits(theirs, inputs)
    with lifted():
        np.testing.assert_array_equal(their_logits(theirs, inputs), plain)


@models
@pytest.mark.parametrize("lift", LIFTS)
def test_float64_needs_each_lift(model: RandomModel, lift: str) -> None:
    theirs, inputs = in_float64(transformers_model(model)), batch(model, model.rows)
    with lifted():
        truth = their_logits(theirs, inputs)
    with lifted(without=lift):
        assert relative_error(their_logits(theirs, inputs), truth) > UNLIFTED


def test_everything_is_put_back() -> None:
    theirs = in_float64(transformers_model(MODELS[0]))
    inputs = batch(MODELS[0], MODELS[0].rows)
    before = their_logits(theirs, inputs)
    with lifted():
        during = their_logits(theirs, inputs)
    np.testing.assert_array_equal(their_logits(theirs, inputs), before)
    assert not np.array_equal(during, before)
