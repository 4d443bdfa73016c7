"""The reader and writer: Gemma, a stack of blocks over one residual stream.

Gemma 2, which PaliGemma 2 reads and writes with, is the same stack with five things
added: a norm behind attention and MLP as well as before them, caps on scores and on
logits, a scale of queries of its own, and a window on every other block. Each stands
here where it acts, and is off where the config has None.

References
----------
Gemma Team (2024), https://arxiv.org/abs/2403.08295, section 2; for Gemma 2
https://arxiv.org/abs/2408.00118, section 2; big_vision/models/ppp/gemma.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from numpy_paligemma.model.attention import (
    grouped_query_attention,
    merge_heads,
    split_heads,
)
from numpy_paligemma.model.cache import LayerCache
from numpy_paligemma.model.config import TextConfig
from numpy_paligemma.model.layers import Matrix, gelu, linear, rms_norm, soft_cap
from numpy_paligemma.model.rope import RopeTable, apply_rope, rope_table
from numpy_paligemma.model.tap import Tap, no_tap, scoped


class PostNorms(NamedTuple):
    """Gains of the two norms that Gemma 2 puts behind its branches, each (D,)."""

    attention: np.ndarray
    mlp: np.ndarray


@dataclass(frozen=True, slots=True)
class GemmaBlockWeights:
    """One decoder block's weights, matrices (out, in) as in the checkpoint."""

    attention_norm: np.ndarray  # (D,)
    q_proj: Matrix  # (N·H, D)
    k_proj: Matrix  # (K·H, D)
    v_proj: Matrix  # (K·H, D)
    o_proj: Matrix  # (D, N·H)
    mlp_norm: np.ndarray  # (D,)
    gate_proj: Matrix  # (F, D)
    up_proj: Matrix  # (F, D)
    down_proj: Matrix  # (D, F)
    post_norms: PostNorms | None = None  # Gemma 2's


@dataclass(frozen=True, slots=True)
class GemmaWeights:
    """The decoder's weights."""

    embed: Matrix  # (V, D)
    blocks: tuple[GemmaBlockWeights, ...]
    final_norm: np.ndarray  # (D,)
    head: Matrix  # (V, D); in published checkpoints the very object `embed`


def gemma_decoder(
    x: np.ndarray,
    positions: np.ndarray,
    mask: np.ndarray | None,
    w: GemmaWeights,
    c: TextConfig,
    caches: Sequence[LayerCache] | None = None,
    *,
    window_mask: np.ndarray | None = None,
    tap: Tap = no_tap,
) -> np.ndarray:
    """Carry the residual stream through every block and the last norm.

    Parameters
    ----------
    x : float array, (B, T, D)
        Soft tokens and scaled text embeddings.
    positions : integer array, (B, T)
    mask : bool array, (B, 1, T, S), or None where everybody sees everything
    w, c : the decoder's numbers and sizes
    caches : one LayerCache a block, or None
        With caches, the T new tokens see the S - T cached ones too.
    window_mask : bool array, (B, 1, T, S), or None
        What `mask` is to the other blocks, for those that look through a window.
    tap : Tap
        Sees ``blockNN/…`` and ``out``.

    Returns
    -------
    float array, (B, T, D)
    """
    rope = rope_table(positions, c.head_dim, c.rope_base, like=x)
    for i, block in enumerate(w.blocks):
        cache = None if caches is None else caches[i]
        seen = window_mask if i in c.sliding_blocks else mask
        at = scoped(tap, f"block{i:02d}")
        x = gemma_block(x, block, rope, seen, cache, c, tap=at)
    return tap("out", rms_norm(x, w.final_norm, c.norm_eps))


def next_token_logits(
    x: np.ndarray, w: GemmaWeights, cap: float | None = None
) -> np.ndarray:
    """Compare with every token's embedding: (..., D) -> (..., V), unscaled."""
    return soft_cap(linear(x, w.head), cap)


def gemma_block(
    x: np.ndarray,
    w: GemmaBlockWeights,
    rope: RopeTable,
    mask: np.ndarray | None,
    cache: LayerCache | None,
    c: TextConfig,
    *,
    tap: Tap = no_tap,
) -> np.ndarray:
    """Add attention, then a gated feed-forward, to the residual stream: (B, T, D)."""
    y = tap("attention_norm", rms_norm(x, w.attention_norm, c.norm_eps))
    y = gemma_attention(y, w, rope, mask, cache, c, tap=scoped(tap, "attention"))
    if w.post_norms is not None:
        y = tap("attention_post_norm", rms_norm(y, w.post_norms.attention, c.norm_eps))
    x = tap("mid", x + y)
    y = tap("mlp_norm", rms_norm(x, w.mlp_norm, c.norm_eps))
    y = gemma_mlp(y, w, tap=scoped(tap, "mlp"))
    if w.post_norms is not None:
        y = tap("mlp_post_norm", rms_norm(y, w.post_norms.mlp, c.norm_eps))
    return tap("out", x + y)


def gemma_attention(
    x: np.ndarray,
    w: GemmaBlockWeights,
    rope: RopeTable,
    mask: np.ndarray | None,
    cache: LayerCache | None,
    c: TextConfig,
    *,
    tap: Tap = no_tap,
) -> np.ndarray:
    """Let the new tokens look at every token so far: (B, T, D) -> same."""
    q = tap("q_proj", split_heads(linear(x, w.q_proj), c.head_dim))  # (B, N, T, H)
    k = tap("k_proj", split_heads(linear(x, w.k_proj), c.head_dim))  # (B, K, T, H)
    v = tap("v_proj", split_heads(linear(x, w.v_proj), c.head_dim))  # (B, K, T, H)
    q = tap("q", apply_rope(q, rope))
    k = tap("k", apply_rope(k, rope))
    if cache is not None:
        k, v = cache.extend(k, v)  # (B, K, S, H)
    context = grouped_query_attention(
        q, k, v, mask, scale=c.query_scale, cap=c.score_cap, tap=tap
    )  # (B, N, T, H)
    return tap("out", linear(merge_heads(context), w.o_proj))


def gemma_mlp(x: np.ndarray, w: GemmaBlockWeights, *, tap: Tap = no_tap) -> np.ndarray:
    """Widen twice, let one gate the other, narrow: (B, T, D) -> (B, T, D).

        down(gelu(gate(x)) · up(x))

    References
    ----------
    Shazeer (2020), https://arxiv.org/abs/2002.05202, equation 6 (GEGLU).
    """
    gated = gelu(linear(x, w.gate_proj)) * linear(x, w.up_proj)  # (B, T, F)
    return tap("out", linear(gated, w.down_proj))
