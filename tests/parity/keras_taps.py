"""What keras-hub's layers make of a batch, under the names of our taps."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras_models import KerasModel, for_keras

from numpy_paligemma.model.rope import apply_rope, rope_table

ROPE_BASE = 10_000.0  # fixed in keras_hub/src/models/gemma/gemma_attention.py
Taps = dict[str, np.ndarray]
Calls = dict[str, list[tuple[Any, Any, Any]]]  # path -> first argument, mask, output
Place = tuple[str, str, int]  # the layer's path, what of it, of which of its calls


def keras_taps(model: KerasModel, backbone: Any, inputs: dict[str, np.ndarray]) -> Taps:
    """Run one forward pass of theirs and give what can be seen of it our names."""
    with layer_calls(backbone) as calls, torch.no_grad():
        hidden = backbone(for_keras(model, inputs))
        backbone.token_embedding(hidden, reverse=True)
    taps: Taps = {}
    for tap, (path, end, nth) in places(model).items():
        argument, mask, out = calls[path][nth]
        x = {"input": argument, "output": out, "mask": mask}[end]
        if isinstance(x, tuple):  # their vision attention gives its probabilities too
            x = x[1]
        taps[tap] = as_ours(tap, x.numpy(), model)
    return taps


@contextmanager
def layer_calls(backbone: Any) -> Iterator[Calls]:
    """Catch every call of every layer under the layer's path."""
    paths = {}  # of layers that do not know theirs
    for block in backbone.transformer_layers:
        for name in ("rope_layer", "softmax"):
            layer = getattr(block.attention, name)
            paths[id(layer)] = f"{block.attention.path}/{name}"
    calls: Calls = {}
    real = keras.layers.Layer.__call__

    def call(self: Any, *args: Any, **options: Any) -> Any:
        out = real(self, *args, **options)
        path = paths.get(id(self), self.path)
        argument = args[0] if args else None
        calls.setdefault(path, []).append((argument, options.get("mask"), out))
        return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.layers.Layer, "__call__", call)
        yield calls


def places(model: KerasModel) -> dict[str, Place]:
    """Say for each tap which layer shows it; the others arise inside a layer of theirs.

    Out of sight are the scaled embeddings (seen in `fusion/out`) and the eye's scores
    (seen in its probabilities).
    """
    encoder = "image_encoder"
    taps = {"vision/embed": (f"{encoder}/encoder_embeddings", "output", 0)}
    for i in range(model.vision[2]):
        for tap, path in VISION_BLOCK.items():
            end = "input" if tap == "mid" else "output"
            at = f"{encoder}/encoder_block_{i}{path}"
            taps[f"vision/block{i:02}/{tap}"] = (at, end, 0)
    taps["vision/out"] = (f"{encoder}/encoder_layer_norm", "output", 0)
    taps["projector/out"] = ("image_classifier", "output", 0)
    taps["fusion/out"] = ("decoder_block_0", "input", 0)
    if model.gemma_2 is not None:  # every other block looks through a window
        taps["fusion/window_mask"] = ("decoder_block_0/attention/softmax", "mask", 0)
    taps["fusion/mask"] = ("decoder_block_1/attention/softmax", "mask", 0)
    block = DECODER_BLOCK if model.gemma_2 is None else DECODER_BLOCK | POST_NORMS
    for i in range(model.text[4]):
        for tap, (path, end, nth) in block.items():
            taps[f"decoder/block{i:02}/{tap}"] = (f"decoder_block_{i}{path}", end, nth)
    taps["decoder/out"] = ("final_normalization", "output", 0)
    taps["logits"] = ("token_embedding", "output", 1)
    return taps


VISION_BLOCK = {
    "attention_norm": "/layer_norm_1",
    "attention/q": "/multi_head_attention/query_proj",
    "attention/k": "/multi_head_attention/key_proj",
    "attention/v": "/multi_head_attention/value_proj",
    "attention/probs": "/multi_head_attention",
    "attention/out": "/multi_head_attention/out_proj",
    "mid": "/layer_norm_2",
    "mlp_norm": "/layer_norm_2",
    "mlp/out": "/mlp_dense_2",
    "out": "",
}
DECODER_BLOCK: dict[str, Place] = {
    "attention_norm": ("/pre_attention_norm", "output", 0),
    "attention/q_proj": ("/attention/query", "output", 0),
    "attention/k_proj": ("/attention/key", "output", 0),
    "attention/v_proj": ("/attention/value", "output", 0),
    "attention/q": ("/attention/rope_layer", "output", 0),
    "attention/k": ("/attention/rope_layer", "output", 1),
    "attention/scores": ("/attention/softmax", "input", 0),
    "attention/probs": ("/attention/softmax", "output", 0),
    "attention/out": ("/attention/attention_output", "output", 0),
    "mid": ("/pre_ffw_norm", "input", 0),
    "mlp_norm": ("/pre_ffw_norm", "output", 0),
    "mlp/out": ("/ffw_linear", "output", 0),
    "out": ("", "output", 0),
}

POST_NORMS: dict[str, Place] = {
    "attention_post_norm": ("/post_attention_norm", "output", 0),
    "mlp_post_norm": ("/post_ffw_norm", "output", 0),
}


def as_ours(tap: str, x: np.ndarray, model: KerasModel) -> np.ndarray:
    """Bring one of their arrays into our form: heads on axis 1, positions from one."""
    if x.ndim == 5:  # (B, K, G, T, S), the mask (B, 1, 1, T, S)
        return x.reshape(len(x), -1, *x.shape[-2:])
    if tap.startswith("vision") and tap.endswith(("/q", "/k", "/v")):
        x = x.reshape(*x.shape[:2], model.vision[1], -1)  # (B, T, N, H)
    if x.ndim == 4 and not tap.endswith("probs"):
        x = x.swapaxes(1, 2)  # (B, N, T, H)
    if tap.startswith("decoder") and tap.endswith(("attention/q", "attention/k")):
        on = rope_table(np.ones((1, 1)), x.shape[-1], ROPE_BASE, like=x)
        return apply_rope(x, on)  # they count from nought
    return x
