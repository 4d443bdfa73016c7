"""Every published layout of the names leads to the one that we know."""

from collections.abc import Callable

import pytest
from tiny import shapes

from numpy_paligemma.checkpoints.names import (
    BUFFERS,
    HEAD,
    POOLING_HEAD,
    canonical_name,
)

EYE, READER = "vision_tower.vision_model.", "language_model.model."


def in_memory(name: str) -> str:
    """Rename as transformers 4.52 to 4.57 hold it in memory."""
    return "model." + name.replace(READER, "language_model.")


def saved_by_5(name: str) -> str:
    """Rename as transformers 5 saves it."""
    return name.replace(EYE, "vision_tower.")


LAYOUTS: dict[str, Callable[[str], str]] = {
    "published": str,
    "4.52 in memory": in_memory,
    "5 saved": saved_by_5,
    "5 in memory": lambda name: in_memory(saved_by_5(name)),
}
EXPLICIT = {
    "vision_tower.encoder.layers.3.mlp.fc1.bias": EYE + "encoder.layers.3.mlp.fc1.bias",
    "model.vision_tower.post_layernorm.bias": EYE + "post_layernorm.bias",
    "model.language_model.norm.weight": READER + "norm.weight",
    "model.multi_modal_projector.linear.bias": "multi_modal_projector.linear.bias",
    "language_model.model.norm.weight": READER + "norm.weight",
    "language_model.lm_head.weight": "lm_head.weight",
    "lm_head.weight": "lm_head.weight",
    "model.model.odd": "model.odd",  # each step at most once
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_leads_to_the_published_name(layout: str) -> None:
    for name in shapes():
        assert canonical_name(LAYOUTS[layout](name)) == name
        assert canonical_name(canonical_name(name)) == name


@pytest.mark.parametrize("name", EXPLICIT)
def test_names_by_hand(name: str) -> None:
    assert canonical_name(name) == EXPLICIT[name]


def test_what_is_left_out_is_these_two_buffers_and_the_pooling_head() -> None:
    out = [
        EYE + "embeddings.position_ids",
        READER + "layers.0.self_attn.rotary_emb.inv_freq",
        READER + "rotary_emb.inv_freq",
    ]
    assert all(BUFFERS.search(name) for name in out)
    assert POOLING_HEAD.search(canonical_name("vision_tower.head.probe"))
    kept = [*shapes(), HEAD]
    assert not any(BUFFERS.search(n) or POOLING_HEAD.search(n) for n in kept)
