"""keras-hub's variables, and the published tensor that each is: one written table."""

import re
from collections.abc import Callable

import numpy as np

Turn = Callable[[np.ndarray], np.ndarray]


def same(x: np.ndarray) -> np.ndarray:
    """Leave a vector or a table of rows as it is."""
    return x


def turned(x: np.ndarray) -> np.ndarray:
    """Turn a matrix: (in, out) -> (out, in)."""
    return x.T


def kernel(x: np.ndarray) -> np.ndarray:
    """Turn the convolution: (height, width, in, out) -> (out, in, height, width)."""
    return x.transpose(3, 2, 0, 1)


def into_heads(x: np.ndarray) -> np.ndarray:
    """Join heads: (N, D, H) -> (N·H, D)."""
    return x.transpose(0, 2, 1).reshape(-1, x.shape[1])


def out_of_heads(x: np.ndarray) -> np.ndarray:
    """Join heads back: (N, H, D) -> (D, N·H)."""
    return x.reshape(-1, x.shape[-1]).T


_EYE, _BLOCK = "image_encoder/encoder_block_{}/", "decoder_block_{}/"
_V, _T = "vision_tower.vision_model.", "language_model.model."
_VL, _TL = _V + "encoder.layers.{}.", _T + "layers.{}."

# fmt: off
VARIABLES: dict[str, tuple[str, Turn]] = {
    "image_encoder/encoder_embeddings/embedding_conv/kernel": (_V + "embeddings.patch_embedding.weight", kernel),
    "image_encoder/encoder_embeddings/embedding_conv/bias": (_V + "embeddings.patch_embedding.bias", same),
    "image_encoder/encoder_embeddings/position_embedding/embeddings": (_V + "embeddings.position_embedding.weight", same),
    _EYE + "layer_norm_1/gamma": (_VL + "layer_norm1.weight", same),
    _EYE + "layer_norm_1/beta": (_VL + "layer_norm1.bias", same),
    _EYE + "multi_head_attention/query_proj/kernel": (_VL + "self_attn.q_proj.weight", turned),
    _EYE + "multi_head_attention/query_proj/bias": (_VL + "self_attn.q_proj.bias", same),
    _EYE + "multi_head_attention/key_proj/kernel": (_VL + "self_attn.k_proj.weight", turned),
    _EYE + "multi_head_attention/key_proj/bias": (_VL + "self_attn.k_proj.bias", same),
    _EYE + "multi_head_attention/value_proj/kernel": (_VL + "self_attn.v_proj.weight", turned),
    _EYE + "multi_head_attention/value_proj/bias": (_VL + "self_attn.v_proj.bias", same),
    _EYE + "multi_head_attention/out_proj/kernel": (_VL + "self_attn.out_proj.weight", turned),
    _EYE + "multi_head_attention/out_proj/bias": (_VL + "self_attn.out_proj.bias", same),
    _EYE + "layer_norm_2/gamma": (_VL + "layer_norm2.weight", same),
    _EYE + "layer_norm_2/beta": (_VL + "layer_norm2.bias", same),
    _EYE + "mlp_dense_1/kernel": (_VL + "mlp.fc1.weight", turned),
    _EYE + "mlp_dense_1/bias": (_VL + "mlp.fc1.bias", same),
    _EYE + "mlp_dense_2/kernel": (_VL + "mlp.fc2.weight", turned),
    _EYE + "mlp_dense_2/bias": (_VL + "mlp.fc2.bias", same),
    "image_encoder/encoder_layer_norm/gamma": (_V + "post_layernorm.weight", same),
    "image_encoder/encoder_layer_norm/beta": (_V + "post_layernorm.bias", same),
    # their classifier of the picture is the projector
    "image_classifier/kernel": ("multi_modal_projector.linear.weight", turned),
    "image_classifier/bias": ("multi_modal_projector.linear.bias", same),
    "token_embedding/embeddings": (_T + "embed_tokens.weight", same),
    _BLOCK + "pre_attention_norm/scale": (_TL + "input_layernorm.weight", same),
    _BLOCK + "attention/query/kernel": (_TL + "self_attn.q_proj.weight", into_heads),
    _BLOCK + "attention/key/kernel": (_TL + "self_attn.k_proj.weight", into_heads),
    _BLOCK + "attention/value/kernel": (_TL + "self_attn.v_proj.weight", into_heads),
    _BLOCK + "attention/attention_output/kernel": (_TL + "self_attn.o_proj.weight", out_of_heads),
    _BLOCK + "pre_ffw_norm/scale": (_TL + "post_attention_layernorm.weight", same),
    _BLOCK + "ffw_gating/kernel": (_TL + "mlp.gate_proj.weight", turned),
    _BLOCK + "ffw_gating_2/kernel": (_TL + "mlp.up_proj.weight", turned),
    _BLOCK + "ffw_linear/kernel": (_TL + "mlp.down_proj.weight", turned),
    "final_normalization/scale": (_T + "norm.weight", same),
}

# the same names mean other norms in Gemma 2, which has four a block
GEMMA_2 = VARIABLES | {
    _BLOCK + "post_attention_norm/scale": (_TL + "post_attention_layernorm.weight", same),
    _BLOCK + "pre_ffw_norm/scale": (_TL + "pre_feedforward_layernorm.weight", same),
    _BLOCK + "post_ffw_norm/scale": (_TL + "post_feedforward_layernorm.weight", same),
}
# fmt: on


def published(path: str, *, gemma_2: bool) -> tuple[str, Turn]:
    """Say which tensor a variable is, and how to turn it into that."""
    number = re.search(r"_block_(\d+)/", path)
    pattern = path if number is None else path.replace(number[0], "_block_{}/")
    name, turn = (GEMMA_2 if gemma_2 else VARIABLES)[pattern]
    return name.format(number and number[1]), turn
