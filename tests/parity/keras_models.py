"""Random PaliGemmas that keras-hub makes and runs, under our names.

keras-hub states the model a second time, apart from transformers: other code, other
layouts, on Keras. Here its models are made, and their variables written down as a
checkpoint in Hugging Face form.
"""

import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras_hub
import numpy as np
from keras_variables import published
from safetensors.numpy import save_file

BOS, FIRST_WORD = 2, 4


@dataclass(frozen=True, slots=True)
class KerasModel:
    """The sizes of a model, and the rows of words and answer that it is shown."""

    name: str
    picture: tuple[int, int]  # pixels a side of the picture, of a patch
    vision: tuple[int, int, int, int]  # width, heads, layers, MLP width
    text: tuple[int, int, int, int, int, int]  # D, N, K, H, layers, F
    rows: tuple[tuple[int, int], ...]
    vocabulary: int = 300  # the <image> id lies right behind it
    gemma_2: tuple[float, float, int] | None = None  # caps of scores and logits, window

    @property
    def soft_tokens(self) -> int:
        """Patches a picture."""
        return (self.picture[0] // self.picture[1]) ** 2


def keras_backbone(
    model: KerasModel, dtype: str, **options: Any
) -> keras_hub.models.PaliGemmaBackbone:
    """Make keras-hub's model, every variable drawn anew: the same for any dtype."""
    D, N, K, H, L, F = model.text
    width, heads, layers, mlp_width = model.vision
    made = keras_hub.models.PaliGemmaBackbone(
        vocabulary_size=model.vocabulary,
        image_size=model.picture[0],
        vit_patch_size=model.picture[1],
        vit_hidden_dim=width,
        vit_num_heads=heads,
        vit_num_layers=layers,
        vit_intermediate_dim=mlp_width,
        hidden_dim=D,
        num_query_heads=N,
        num_key_value_heads=K,
        head_dim=H,
        num_layers=L,
        intermediate_dim=2 * F,  # they count gate and up together
        dtype=dtype,
        **gemma_2_options(model),
        **options,
    )
    rng = np.random.default_rng(zlib.crc32(model.name.encode()))
    for variable in made.variables:
        _, turn = published(variable.path, gemma_2=model.gemma_2 is not None)
        shape = tuple(variable.shape)
        fan_in = turn(np.empty(shape))[0].size
        variable.assign(draw(variable.path, shape, fan_in, rng))
    return made


def gemma_2_options(model: KerasModel) -> dict[str, Any]:
    """Say in their words what Gemma 2 has more."""
    if model.gemma_2 is None:
        return {}
    scores, logits, window = model.gemma_2
    return {
        "use_post_ffw_norm": True,
        "use_post_attention_norm": True,
        "attention_logit_soft_cap": scores,
        "final_logit_soft_cap": logits,
        "use_sliding_window_attention": True,
        "sliding_window_size": window,
    }


def draw(
    path: str, shape: tuple[int, ...], fan_in: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw a variable so that activations keep a size near one."""
    if len(shape) == 1:  # SigLIP's gains lie around one, Gemma's around nought
        return rng.normal(path.endswith("gamma"), 0.3, shape).astype(np.float32)
    size = 0.3 if path.startswith("token_embedding") else 1.2
    return rng.normal(0, size / fan_in**0.5, shape).astype(np.float32)


def write_checkpoint(folder: Path, model: KerasModel, backbone: Any) -> Path:
    """Write their variables as a checkpoint in Hugging Face form; its folder."""
    tensors = {}
    for variable in backbone.variables:
        name, turn = published(variable.path, gemma_2=model.gemma_2 is not None)
        numbers = variable.value.detach().numpy().astype(np.float32)
        tensors[name] = np.ascontiguousarray(turn(numbers))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(hf_config(model)))
    return folder


def hf_config(model: KerasModel) -> dict[str, Any]:
    """Spell the sizes out in Hugging Face's words."""
    D, N, K, H, L, F = model.text
    width, heads, layers, mlp_width = model.vision
    return {
        "model_type": "paligemma",
        "image_token_index": model.vocabulary,
        "projection_dim": D,
        "vision_config": {
            "model_type": "siglip_vision_model",
            "image_size": model.picture[0],
            "patch_size": model.picture[1],
            "hidden_size": width,
            "num_attention_heads": heads,
            "num_hidden_layers": layers,
            "intermediate_size": mlp_width,
        },
        "text_config": {
            **hf_gemma_2(model),
            "vocab_size": model.vocabulary,
            "hidden_size": D,
            "num_attention_heads": N,
            "num_key_value_heads": K,
            "head_dim": H,
            "num_hidden_layers": L,
            "intermediate_size": F,
        },
    }


def hf_gemma_2(model: KerasModel) -> dict[str, Any]:
    """Name the family, and what Gemma 2 has more."""
    if model.gemma_2 is None:
        return {"model_type": "gemma"}
    scores, logits, window = model.gemma_2
    return {
        "model_type": "gemma2",
        "query_pre_attn_scalar": model.text[3],  # they scale by the heads' size alone
        "attn_logit_softcapping": scores,
        "final_logit_softcapping": logits,
        "sliding_window": window,
    }


def batch(model: KerasModel) -> dict[str, np.ndarray]:
    """Draw a batch padded on the right, as keras-hub pads: our arguments by name."""
    rng = np.random.default_rng(zlib.crc32(model.name.encode()) + 1)
    prefix = model.soft_tokens + 1
    lengths = [prefix + words + answer for words, answer in model.rows]
    shape = (len(lengths), max(lengths))
    ids = rng.integers(FIRST_WORD, model.vocabulary, shape)
    ids[:, : model.soft_tokens] = model.vocabulary
    ids[:, model.soft_tokens] = BOS
    cells = np.arange(shape[1])
    real = cells < np.array(lengths)[:, None]
    answered = cells >= np.array([prefix + words for words, _ in model.rows])[:, None]
    side = model.picture[0]
    pictures = rng.uniform(-1, 1, (len(lengths), 3, side, side))
    return {
        "input_ids": np.where(real, ids, 0),
        "pixel_values": pictures.astype(np.float32),
        "attention_mask": real.astype(int),
        "token_type_ids": (answered & real).astype(int),
    }


def for_keras(model: KerasModel, inputs: dict[str, np.ndarray]) -> dict[str, Any]:
    """Say our arguments in their words: channels last, the picture's tokens unsaid."""
    behind = slice(model.soft_tokens, None)
    return {
        "images": inputs["pixel_values"].transpose(0, 2, 3, 1),
        "token_ids": inputs["input_ids"][:, behind].astype("int32"),
        "padding_mask": inputs["attention_mask"][:, behind].astype("int32"),
        "response_mask": inputs["token_type_ids"][:, behind].astype("int32"),
    }
