"""The inventory: which published tensor is which weight, and of what shape.

Explicit lines, one a tensor: this is the table that somebody who ports the model comes
for. `take` says what happens to each: `load.py` has one that checks and one that reads.
"""

from typing import Protocol

import numpy as np

from numpy_paligemma.checkpoints.names import (
    DECODER,
    EMBEDDING,
    HEAD,
    PROJECTOR,
    VISION,
)
from numpy_paligemma.model.config import PaliGemmaConfig, TextConfig, VisionConfig
from numpy_paligemma.model.gemma import GemmaBlockWeights, GemmaWeights, PostNorms
from numpy_paligemma.model.layers import Affine, Matrix, Norm
from numpy_paligemma.model.pipeline import PaliGemmaWeights
from numpy_paligemma.model.siglip import SiglipBlockWeights, SiglipWeights


class Take(Protocol):
    """Gives a tensor by its published name, if it has the expected shape."""

    def matrix(self, name: str, shape: tuple[int, ...]) -> Matrix:
        """Take a matrix; axes behind the first are flattened into one."""

    def vector(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Take a small tensor, in the dtype of the arithmetic."""


def paligemma_weights(
    take: Take, c: PaliGemmaConfig, *, tied: bool
) -> PaliGemmaWeights:
    """Take the whole model."""
    return PaliGemmaWeights(
        vision=siglip_weights(take, c.vision),
        projector=affine(take, PROJECTOR, (c.text.width, c.vision.width)),
        decoder=gemma_weights(take, c.text, tied=tied),
    )


def siglip_weights(take: Take, c: VisionConfig) -> SiglipWeights:
    """Take the vision tower."""
    kernel = (c.width, c.channels, c.patch_size, c.patch_size)
    return SiglipWeights(
        patch_embed=affine(take, VISION + "embeddings.patch_embedding", kernel),
        position_embed=take.vector(
            VISION + "embeddings.position_embedding.weight", (c.patches, c.width)
        ),
        blocks=tuple(siglip_block_weights(take, i, c) for i in range(c.depth)),
        final_norm=norm(take, VISION + "post_layernorm", c.width),
    )


def siglip_block_weights(take: Take, layer: int, c: VisionConfig) -> SiglipBlockWeights:
    """Take one vision block."""
    at = f"{VISION}encoder.layers.{layer}."
    square, D, F = (c.width, c.width), c.width, c.mlp_width
    return SiglipBlockWeights(
        attention_norm=norm(take, at + "layer_norm1", D),
        q_proj=affine(take, at + "self_attn.q_proj", square),
        k_proj=affine(take, at + "self_attn.k_proj", square),
        v_proj=affine(take, at + "self_attn.v_proj", square),
        out_proj=affine(take, at + "self_attn.out_proj", square),
        mlp_norm=norm(take, at + "layer_norm2", D),
        fc1=affine(take, at + "mlp.fc1", (F, D)),
        fc2=affine(take, at + "mlp.fc2", (D, F)),
    )


def gemma_weights(take: Take, c: TextConfig, *, tied: bool) -> GemmaWeights:
    """Take the decoder; a tied head is the embedding itself."""
    table = (c.vocab_size, c.width)
    embed = take.matrix(EMBEDDING, table)
    return GemmaWeights(
        embed=embed,
        blocks=tuple(gemma_block_weights(take, i, c) for i in range(c.depth)),
        final_norm=take.vector(DECODER + "norm.weight", (c.width,)),
        head=embed if tied else take.matrix(HEAD, table),
    )


def gemma_block_weights(take: Take, layer: int, c: TextConfig) -> GemmaBlockWeights:
    """Take one decoder block."""
    at = f"{DECODER}layers.{layer}."
    D, F = c.width, c.mlp_width
    q_width, kv_width = c.heads * c.head_dim, c.kv_heads * c.head_dim
    # the published name says where a norm stands, and Gemma 2 has two more: what stands
    # behind the attention feeds the MLP in Gemma 1 and the residual stream in Gemma 2
    before_mlp = "pre_feedforward" if c.post_norms else "post_attention"
    return GemmaBlockWeights(
        attention_norm=take.vector(at + "input_layernorm.weight", (D,)),
        q_proj=take.matrix(at + "self_attn.q_proj.weight", (q_width, D)),
        k_proj=take.matrix(at + "self_attn.k_proj.weight", (kv_width, D)),
        v_proj=take.matrix(at + "self_attn.v_proj.weight", (kv_width, D)),
        o_proj=take.matrix(at + "self_attn.o_proj.weight", (D, q_width)),
        mlp_norm=take.vector(f"{at}{before_mlp}_layernorm.weight", (D,)),
        gate_proj=take.matrix(at + "mlp.gate_proj.weight", (F, D)),
        up_proj=take.matrix(at + "mlp.up_proj.weight", (F, D)),
        down_proj=take.matrix(at + "mlp.down_proj.weight", (D, F)),
        post_norms=post_norms(take, at, D) if c.post_norms else None,
    )


def post_norms(take: Take, at: str, width: int) -> PostNorms:
    """Take the two norms that Gemma 2 alone has, behind attention and MLP."""
    return PostNorms(
        attention=take.vector(at + "post_attention_layernorm.weight", (width,)),
        mlp=take.vector(at + "post_feedforward_layernorm.weight", (width,)),
    )


def affine(take: Take, name: str, shape: tuple[int, ...]) -> Affine:
    """Take a matrix and its bias."""
    weight = take.matrix(name + ".weight", shape)
    return Affine(weight, take.vector(name + ".bias", shape[:1]))


def norm(take: Take, name: str, width: int) -> Norm:
    """Take a LayerNorm's gain and bias."""
    gain = take.vector(name + ".weight", (width,))
    return Norm(gain, take.vector(name + ".bias", (width,)))
