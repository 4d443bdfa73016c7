"""big_vision's names: which array holds which published tensors, and in what order.

An array holds all layers of a tower, stacked; its kernels are (in, out), the heads
apart. A line says how its axes, one letter each, become the published tensor's; letters
written together are joined. The letters are the sizes of the model:

    l W A a M    vision: layers, width, heads, head size, MLP width
    p q c N      patch height and width, channels, patches a picture
    L D H K h    text: layers, width, query heads, key-value heads, head size
    F V          text: MLP width, rows of the embedding
    1 2 3        an axis of so many, taken apart

Nothing is turned for RoPE: both sides rotate halves.

References
----------
big_vision, ``models/vit.py`` and ``models/ppp/gemma.py``.
"""

from typing import NamedTuple

from numpy_paligemma.checkpoints.names import DECODER, EMBEDDING, PROJECTOR, VISION

LAYERS = "lL"  # the axes that count layers
COUNTED = {"1": 1, "2": 2, "3": 3}

EYE = "img/Transformer/"
EYE_BLOCK = EYE + "encoderblock/"
EYE_HEADS = EYE_BLOCK + "MultiHeadDotProductAttention_0/"
BLOCK = "llm/layers/"

AT_EYE = VISION + "encoder.layers.{}."
AT = DECODER + "layers.{}."


class Line(NamedTuple):
    """One array: its axes, the published tensor's, and the names of that, `{}` the layer."""

    key: str
    stored: str
    published: str
    names: tuple[str, ...]


def _line(key: str, stored: str, published: str, *names: str) -> Line:
    return Line(key, stored, published, names)


def _affine(key: str, stored: str, published: str, name: str) -> list[Line]:
    """Write the two lines of a map; the bias has the output's axes, and the layers'."""
    rows = published.split(maxsplit=1)[0]
    bias = [axis for axis in stored.split() if axis in rows or axis in LAYERS]
    return [
        _line(f"{key}/kernel", stored, published, f"{name}.weight"),
        _line(f"{key}/bias", " ".join(bias), rows, f"{name}.bias"),
    ]


def _norm(key: str, stored: str, name: str) -> list[Line]:
    """Write the two lines of a LayerNorm, gain and bias."""
    gain = _line(f"{key}/scale", stored, "W", f"{name}.weight")
    return [gain, _line(f"{key}/bias", stored, "W", f"{name}.bias")]


# fmt: off
IMAGE = [
    *_affine("img/embedding", "p q c W", "W c p q", VISION + "embeddings.patch_embedding"),
    _line("img/pos_embedding", "1 N W", "N W", VISION + "embeddings.position_embedding.weight"),
    *_norm(EYE_BLOCK + "LayerNorm_0", "l W", AT_EYE + "layer_norm1"),
    *_affine(EYE_HEADS + "query", "l W A a", "Aa W", AT_EYE + "self_attn.q_proj"),
    *_affine(EYE_HEADS + "key", "l W A a", "Aa W", AT_EYE + "self_attn.k_proj"),
    *_affine(EYE_HEADS + "value", "l W A a", "Aa W", AT_EYE + "self_attn.v_proj"),
    *_affine(EYE_HEADS + "out", "l A a W", "W Aa", AT_EYE + "self_attn.out_proj"),
    *_norm(EYE_BLOCK + "LayerNorm_1", "l W", AT_EYE + "layer_norm2"),
    *_affine(EYE_BLOCK + "MlpBlock_0/Dense_0", "l W M", "M W", AT_EYE + "mlp.fc1"),
    *_affine(EYE_BLOCK + "MlpBlock_0/Dense_1", "l M W", "W M", AT_EYE + "mlp.fc2"),
    *_norm(EYE + "encoder_norm", "W", VISION + "post_layernorm"),
    # what big_vision calls the eye's head is the projector
    *_affine("img/head", "W D", "D W", PROJECTOR),
]
ATTENTION = [
    _line(BLOCK + "attn/q_einsum/w", "L H D h", "Hh D", AT + "self_attn.q_proj.weight"),
    _line(BLOCK + "attn/kv_einsum/w", "L 2 K D h", "Kh D",
          AT + "self_attn.k_proj.weight", AT + "self_attn.v_proj.weight"),
]
# instead of the two, where every query head has a key-value head of its own
ATTENTION_IN_ONE = [
    _line(BLOCK + "attn/qkv_einsum/w", "L 3 H D h", "Hh D", AT + "self_attn.q_proj.weight",
          AT + "self_attn.k_proj.weight", AT + "self_attn.v_proj.weight"),
]
LANGUAGE = [
    _line("llm/embedder/input_embedding", "V D", "V D", EMBEDDING),
    _line(BLOCK + "attn/attn_vec_einsum/w", "L H h D", "D Hh", AT + "self_attn.o_proj.weight"),
    _line(BLOCK + "mlp/gating_einsum", "L 2 D F", "F D",
          AT + "mlp.gate_proj.weight", AT + "mlp.up_proj.weight"),
    _line(BLOCK + "mlp/linear", "L F D", "D F", AT + "mlp.down_proj.weight"),
    _line(BLOCK + "pre_attention_norm/scale", "L D", "D", AT + "input_layernorm.weight"),
    _line("llm/final_norm/scale", "D", "D", DECODER + "norm.weight"),
]
# the published name says where a norm stands, big_vision's what it feeds
GEMMA = [
    _line(BLOCK + "pre_ffw_norm/scale", "L D", "D", AT + "post_attention_layernorm.weight"),
]
GEMMA_2 = [
    _line(BLOCK + "pre_ffw_norm/scale", "L D", "D", AT + "pre_feedforward_layernorm.weight"),
    _line(BLOCK + "post_attention_norm/scale", "L D", "D",
          AT + "post_attention_layernorm.weight"),
    _line(BLOCK + "post_ffw_norm/scale", "L D", "D", AT + "post_feedforward_layernorm.weight"),
]
# fmt: on
GEMMA_2_ONLY = BLOCK + "post_attention_norm/scale"
