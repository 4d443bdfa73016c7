"""A tiny PaliGemma on disk: every size different, every number random, no torch.

Sizes that all differ make a transposition fail by its shape; random norms and biases
make a forgotten one show.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tiny_tokenizer import paligemma_file

from numpy_paligemma.arrays.formats import round_to_bfloat16

IMAGE_ID = 2052  # right behind the pieces of the tiny tokenizer
VOCABULARY = 2059  # a few rows more, as in the published embedding

TEXT = {
    "model_type": "gemma",
    "vocab_size": VOCABULARY,
    "hidden_size": 10,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "intermediate_size": 22,
}
VISION = {
    "model_type": "siglip_vision_model",
    "image_size": 14,  # three patches and two pixels that no patch sees
    "patch_size": 4,
    "hidden_size": 15,
    "num_hidden_layers": 2,
    "num_attention_heads": 5,
    "intermediate_size": 21,
}
CONFIG: dict[str, Any] = {
    "model_type": "paligemma",
    "image_token_index": IMAGE_ID,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "projection_dim": 10,
    "text_config": TEXT,
    "vision_config": VISION,
}
Tensors = dict[str, np.ndarray]
Stored = tuple[str, tuple[int, ...], bytes]  # dtype, shape and bytes, as in the file


def shapes() -> dict[str, tuple[int, ...]]:
    """Spell out the published names and shapes, apart from the package's own table."""
    out: dict[str, tuple[int, ...]] = {
        "embeddings.patch_embedding.weight": (15, 3, 4, 4),
        "embeddings.patch_embedding.bias": (15,),
        "embeddings.position_embedding.weight": (9, 15),
        "post_layernorm.weight": (15,),
        "post_layernorm.bias": (15,),
    }
    for i in range(2):
        at = f"encoder.layers.{i}."
        for name in ["layer_norm1", "layer_norm2"]:
            out |= {f"{at}{name}.weight": (15,), f"{at}{name}.bias": (15,)}
        for name in ["q_proj", "k_proj", "v_proj", "out_proj"]:
            to = f"{at}self_attn.{name}"
            out |= {f"{to}.weight": (15, 15), f"{to}.bias": (15,)}
        out |= {f"{at}mlp.fc1.weight": (21, 15), f"{at}mlp.fc1.bias": (21,)}
        out |= {f"{at}mlp.fc2.weight": (15, 21), f"{at}mlp.fc2.bias": (15,)}
    out = {f"vision_tower.vision_model.{name}": shape for name, shape in out.items()}
    out["multi_modal_projector.linear.weight"] = (10, 15)
    out["multi_modal_projector.linear.bias"] = (10,)
    out["language_model.model.embed_tokens.weight"] = (VOCABULARY, 10)
    out["language_model.model.norm.weight"] = (10,)
    for i in range(3):
        at = f"language_model.model.layers.{i}."
        out |= {
            f"{at}input_layernorm.weight": (10,),
            f"{at}self_attn.q_proj.weight": (24, 10),
            f"{at}self_attn.k_proj.weight": (12, 10),
            f"{at}self_attn.v_proj.weight": (12, 10),
            f"{at}self_attn.o_proj.weight": (10, 24),
            f"{at}post_attention_layernorm.weight": (10,),
            f"{at}mlp.gate_proj.weight": (22, 10),
            f"{at}mlp.up_proj.weight": (22, 10),
            f"{at}mlp.down_proj.weight": (10, 22),
        }
    return out


def random_tensors(seed: int = 0) -> Tensors:
    """Draw every tensor; those that stand for a gain lie around one half."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(0.5 * ("norm" in name), 0.5, shape).astype(np.float32)
        for name, shape in shapes().items()
    }


def stored(x: np.ndarray, dtype: str = "F32") -> Stored:
    """Write an array's bytes as a safetensors dtype."""
    if dtype == "BF16":
        return dtype, x.shape, round_to_bfloat16(x).tobytes()
    kind = {"F32": "<f4", "F16": "<f2", "I64": "<i8"}[dtype]
    return dtype, x.shape, x.astype(kind).tobytes()


def write_safetensors(path: Path, tensors: Mapping[str, Stored]) -> Path:
    """Write a file by hand: length, header, bytes."""
    header, end = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        offsets = (end, end + len(data))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        end += len(data)
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    data = b"".join(data for *_, data in tensors.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def write_config(folder: Path, **changes: Any) -> None:
    """Write `config.json`; sections given replace fields, None takes one out."""
    config = CONFIG | {"text_config": dict(TEXT), "vision_config": dict(VISION)}
    for name, value in changes.items():
        if isinstance(value, dict):
            config[name] |= value
        elif value is None:
            del config[name]
        else:
            config[name] = value
    (folder / "config.json").write_text(json.dumps(config))


def write_checkpoint(
    folder: Path,
    tensors: Tensors | None = None,
    *,
    dtype: str = "F32",
    rename: Callable[[str], str] = str,
) -> Path:
    """Write a whole checkpoint in Hugging Face form; its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = random_tensors() if tensors is None else tensors
    files = {rename(name): stored(x, dtype) for name, x in tensors.items()}
    write_safetensors(folder / "model.safetensors", files)
    write_config(folder)
    size = {"height": 14, "width": 14}
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": size}))
    (folder / "tokenizer.model").write_bytes(paligemma_file())
    return folder


def write_shards(folder: Path, tensors: Tensors | None = None) -> Path:
    """Write a whole checkpoint cut into three shards with an index; its folder."""
    write_checkpoint(folder, {})
    (folder / "model.safetensors").unlink()
    tensors = random_tensors() if tensors is None else tensors
    names = [f"model-{i:05}-of-00003.safetensors" for i in (1, 2, 3)]
    for i, name in enumerate(names):
        part = {key: stored(tensors[key]) for key in sorted(tensors)[i::3]}
        write_safetensors(folder / name, part)
    of = {key: names[i % 3] for i, key in enumerate(sorted(tensors))}
    index = {"metadata": {"total_size": 0}, "weight_map": of}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
