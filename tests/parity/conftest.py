"""What the comparisons with transformers share: a pair of models, ours and theirs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from random_models import RandomModel

    from numpy_paligemma.paligemma import PaliGemma


@dataclass(frozen=True, repr=False)
class Pair:
    """One checkpoint: transformers' float32 model, and the folder it was saved to."""

    model: RandomModel
    theirs: Any
    folder: Path
    inputs: dict[str, np.ndarray]
    truth: dict[str, np.ndarray]  # every tap, from lifted float64

    def ours(self, dtype: str) -> PaliGemma:
        """Load the folder by our own loader."""
        from random_models import our_model

        return our_model(self.folder, dtype)


@pytest.fixture(scope="session")
def make_pair(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Make each pair once a session."""
    from lifting import lifted
    from random_models import batch, in_float64, our_model, transformers_model
    from their_taps import their_taps
    from transformers.utils import logging

    logging.disable_progress_bar()
    made: dict[str, Pair] = {}

    def make(model: RandomModel) -> Pair:
        if model.name not in made:
            theirs = transformers_model(model)
            folder = tmp_path_factory.mktemp(model.name)
            theirs.save_pretrained(folder)
            inputs = batch(model, model.rows)
            config = our_model(folder, "float32").config
            with lifted():
                truth = their_taps(in_float64(theirs), inputs, config)
            made[model.name] = Pair(model, theirs, folder, inputs, truth)
        return made[model.name]

    return make
