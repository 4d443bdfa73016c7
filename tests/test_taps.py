"""The table of taps in the published module tree."""

import pytest

from numpy_paligemma.checkpoints.names import DECODER, PROJECTOR, VISION
from numpy_paligemma.checkpoints.taps import published_module

EYE, LAYER = VISION + "encoder.layers.3.mlp", DECODER + "layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("path", "published"),
    [
        ("vision_tower.vision_model.encoder.layers.3.mlp", EYE),  # up to 4.51
        ("model.vision_tower.vision_model.encoder.layers.3.mlp", EYE),  # 4.52 to 4.57
        ("model.vision_tower.encoder.layers.3.mlp", EYE),  # 5
        ("language_model.model.layers.0.self_attn.q_proj", LAYER),
        ("model.language_model.layers.0.self_attn.q_proj", LAYER),
        ("model.multi_modal_projector.linear", PROJECTOR),
        ("language_model.lm_head", "lm_head"),
        ("lm_head", "lm_head"),
        ("model.language_model", "language_model.model"),
    ],
)
def test_every_release_has_the_published_modules(path: str, published: str) -> None:
    assert published_module(path) == published
