"""A checkpoint in Hugging Face form, turned back into big_vision's arrays.

Spelt out array by array, apart from the package's own table: what flax calls a kernel
is (in, out), heads are an axis, and all layers of a tower lie in one array.
"""

from pathlib import Path

import numpy as np

from numpy_paligemma.arrays.formats import round_to_bfloat16
from numpy_paligemma.model.config import PaliGemmaConfig

Arrays = dict[str, np.ndarray]
EYE = "vision_tower.vision_model."
TEXT = "language_model.model."


def big_vision_arrays(
    t: Arrays, c: PaliGemmaConfig, *, in_one: bool = False, prefix: str = "params/"
) -> Arrays:
    """Turn published tensors `t` into the arrays of an `.npz`."""
    arrays = {**image_arrays(t, c), **text_arrays(t, c, in_one=in_one)}
    return {prefix + key: x for key, x in arrays.items()}


def image_arrays(t: Arrays, c: PaliGemmaConfig) -> Arrays:
    """Spell out what begins with ``img/``."""
    N, W, H = c.vision.heads, c.vision.width, c.vision.head_dim

    def stack(name: str) -> np.ndarray:
        at = [f"{EYE}encoder.layers.{i}.{name}" for i in range(c.vision.depth)]
        return np.stack([t[name] for name in at])

    out = {
        "embedding/kernel": np.einsum(
            "wcyx->yxcw", t[EYE + "embeddings.patch_embedding.weight"]
        ),
        "embedding/bias": t[EYE + "embeddings.patch_embedding.bias"],
        "pos_embedding": t[EYE + "embeddings.position_embedding.weight"][None],
        "Transformer/encoder_norm/scale": t[EYE + "post_layernorm.weight"],
        "Transformer/encoder_norm/bias": t[EYE + "post_layernorm.bias"],
        "head/kernel": t["multi_modal_projector.linear.weight"].T,
        "head/bias": t["multi_modal_projector.linear.bias"],
    }
    block = "Transformer/encoderblock/"
    for i in [0, 1]:
        norm, dense = f"{block}LayerNorm_{i}", f"{block}MlpBlock_0/Dense_{i}"
        out[f"{norm}/scale"] = stack(f"layer_norm{i + 1}.weight")
        out[f"{norm}/bias"] = stack(f"layer_norm{i + 1}.bias")
        out[f"{dense}/kernel"] = np.einsum("loi->lio", stack(f"mlp.fc{i + 1}.weight"))
        out[f"{dense}/bias"] = stack(f"mlp.fc{i + 1}.bias")
    for ours, theirs in [("q", "query"), ("k", "key"), ("v", "value")]:
        at = f"{block}MultiHeadDotProductAttention_0/{theirs}"
        kernel = stack(f"self_attn.{ours}_proj.weight").reshape(-1, N, H, W)
        out[f"{at}/kernel"] = np.einsum("lnhw->lwnh", kernel)
        out[f"{at}/bias"] = stack(f"self_attn.{ours}_proj.bias").reshape(-1, N, H)
    at = f"{block}MultiHeadDotProductAttention_0/out"
    kernel = stack("self_attn.out_proj.weight").reshape(-1, W, N, H)
    out[f"{at}/kernel"] = np.einsum("lwnh->lnhw", kernel)
    out[f"{at}/bias"] = stack("self_attn.out_proj.bias")
    return {f"img/{key}": x for key, x in out.items()}


def text_arrays(t: Arrays, c: PaliGemmaConfig, *, in_one: bool) -> Arrays:
    """Spell out what begins with ``llm/``."""
    N, K, H, D = c.text.heads, c.text.kv_heads, c.text.head_dim, c.text.width

    def stack(name: str) -> np.ndarray:
        at = [f"{TEXT}layers.{i}.{name}.weight" for i in range(c.text.depth)]
        return np.stack([t[name] for name in at])

    q, k, v = (
        np.einsum("lnhd->lndh", stack(f"self_attn.{x}_proj").reshape(-1, n, H, D))
        for x, n in [("q", N), ("k", K), ("v", K)]
    )
    o = stack("self_attn.o_proj").reshape(-1, D, N, H)
    gate, up = stack("mlp.gate_proj"), stack("mlp.up_proj")
    out = {
        "embedder/input_embedding": t[TEXT + "embed_tokens.weight"],
        "final_norm/scale": t[TEXT + "norm.weight"],
        "layers/attn/attn_vec_einsum/w": np.einsum("ldnh->lnhd", o),
        "layers/mlp/gating_einsum": np.einsum("glfd->lgdf", np.stack([gate, up])),
        "layers/mlp/linear": np.einsum("ldf->lfd", stack("mlp.down_proj")),
        "layers/pre_attention_norm/scale": stack("input_layernorm"),
        "layers/pre_ffw_norm/scale": stack("post_attention_layernorm"),
    }
    if c.text.post_norms:
        norms = {"pre_ffw_norm": "pre_feedforward_layernorm"}
        norms |= {"post_attention_norm": "post_attention_layernorm"}
        norms |= {"post_ffw_norm": "post_feedforward_layernorm"}
        out |= {f"layers/{key}/scale": stack(name) for key, name in norms.items()}
    if in_one:
        out["layers/attn/qkv_einsum/w"] = np.stack([q, k, v], axis=1)
    else:
        out["layers/attn/q_einsum/w"] = q
        out["layers/attn/kv_einsum/w"] = np.stack([k, v], axis=1)
    return {f"llm/{key}": x for key, x in out.items()}


def write_npz(
    path: Path, arrays: Arrays, *, dtype: str = "F32", compressed: bool = False
) -> Path:
    """Write the arrays; bfloat16 as the two bytes that NumPy makes of it."""
    kinds = {"F32": "<f4", "F16": "<f2"}
    held = {
        key: round_to_bfloat16(x).view("V2")
        if dtype == "BF16"
        else x.astype(kinds[dtype])
        for key, x in arrays.items()
    }
    (np.savez_compressed if compressed else np.savez)(path, **held)
    return path
