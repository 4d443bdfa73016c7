"""The eye: SigLIP cuts a picture into patches and lets them all see each other.

References
----------
Zhai et al. (2023), https://arxiv.org/abs/2303.15343; Dosovitskiy et al. (2020),
https://arxiv.org/abs/2010.11929, section 3.1; big_vision/models/vit.py.
"""

from dataclasses import dataclass

import numpy as np

from numpy_paligemma.model.attention import (
    grouped_query_attention,
    merge_heads,
    split_heads,
)
from numpy_paligemma.model.config import VisionConfig
from numpy_paligemma.model.layers import Affine, Norm, gelu, layer_norm, linear
from numpy_paligemma.model.tap import Tap, no_tap, scoped


@dataclass(frozen=True, slots=True)
class SiglipBlockWeights:
    """One encoder block's weights, matrices (out, in) as in the checkpoint."""

    attention_norm: Norm  # (D,), (D,)
    q_proj: Affine  # (D, D), (D,)
    k_proj: Affine  # (D, D), (D,)
    v_proj: Affine  # (D, D), (D,)
    out_proj: Affine  # (D, D), (D,)
    mlp_norm: Norm  # (D,), (D,)
    fc1: Affine  # (F, D), (F,)
    fc2: Affine  # (D, F), (D,)


@dataclass(frozen=True, slots=True)
class SiglipWeights:
    """The encoder's weights."""

    patch_embed: Affine  # (D, 3·patch·patch), (D,); inputs in the order channel, y, x
    position_embed: np.ndarray  # (P, D), learned, one row a patch
    blocks: tuple[SiglipBlockWeights, ...]
    final_norm: Norm  # (D,), (D,)


def siglip_encoder(
    pixels: np.ndarray, w: SiglipWeights, c: VisionConfig, *, tap: Tap = no_tap
) -> np.ndarray:
    """Turn pictures into one feature vector a patch.

    Parameters
    ----------
    pixels : float array, (B, 3, height, width)
        In -1 … 1, height = width = ``c.image_size``.
    w, c : the encoder's numbers and sizes
    tap : Tap
        Sees ``embed``, ``blockNN/…`` and ``out``.

    Returns
    -------
    float array, (B, P, D), patches row by row from the top left
    """
    patches = cut_patches(pixels, c.patch_size)  # (B, P, 3·patch·patch)
    x = tap("embed", linear(patches, *w.patch_embed) + w.position_embed)  # (B, P, D)
    for i, block in enumerate(w.blocks):
        x = siglip_block(x, block, c, tap=scoped(tap, f"block{i:02d}"))
    return tap("out", layer_norm(x, *w.final_norm, c.norm_eps))


def cut_patches(pixels: np.ndarray, patch: int) -> np.ndarray:
    """Cut pictures into patches: (B, C, height, width) -> (B, P, C·patch·patch).

    A convolution whose stride is its kernel's size sees every pixel once: it is this
    cut, followed by one matrix product. Pixels beyond the last whole patch are left
    out, as the convolution leaves them.
    """
    B, C, height, width = pixels.shape
    rows, columns = height // patch, width // patch
    whole = pixels[:, :, : rows * patch, : columns * patch]
    tiles = whole.reshape(B, C, rows, patch, columns, patch)
    tiles = tiles.transpose(0, 2, 4, 1, 3, 5)  # (B, rows, columns, C, patch, patch)
    return tiles.reshape(B, rows * columns, C * patch * patch)


def siglip_block(
    x: np.ndarray, w: SiglipBlockWeights, c: VisionConfig, *, tap: Tap = no_tap
) -> np.ndarray:
    """Add attention, then a feed-forward, to the residual stream: (B, P, D) -> same."""
    y = tap("attention_norm", layer_norm(x, *w.attention_norm, c.norm_eps))
    x = tap("mid", x + siglip_attention(y, w, c, tap=scoped(tap, "attention")))
    y = tap("mlp_norm", layer_norm(x, *w.mlp_norm, c.norm_eps))
    return tap("out", x + siglip_mlp(y, w, tap=scoped(tap, "mlp")))


def siglip_attention(
    x: np.ndarray, w: SiglipBlockWeights, c: VisionConfig, *, tap: Tap = no_tap
) -> np.ndarray:
    """Let every patch look at every patch, itself included: (B, P, D) -> same."""
    q = tap("q", split_heads(linear(x, *w.q_proj), c.head_dim))  # (B, N, P, H)
    k = tap("k", split_heads(linear(x, *w.k_proj), c.head_dim))  # (B, N, P, H)
    v = tap("v", split_heads(linear(x, *w.v_proj), c.head_dim))  # (B, N, P, H)
    context = grouped_query_attention(q, k, v, tap=tap)  # (B, N, P, H)
    return tap("out", linear(merge_heads(context), *w.out_proj))


def siglip_mlp(
    x: np.ndarray, w: SiglipBlockWeights, *, tap: Tap = no_tap
) -> np.ndarray:
    """Widen, bend, narrow: fc2(gelu(fc1(x))), (B, P, D) -> (B, P, D)."""
    return tap("out", linear(gelu(linear(x, *w.fc1)), *w.fc2))
