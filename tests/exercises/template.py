"""Layers to write yourself, from one line to a whole block; README.md tells how.

A letter is a size: B batch, T new positions, S all positions, D width, N query heads, K
key-value heads, H head size, F hidden width of the MLP, P patches, V vocabulary.
"""

import numpy as np

from numpy_paligemma.model.config import TextConfig, VisionConfig
from numpy_paligemma.model.gemma import GemmaBlockWeights
from numpy_paligemma.model.layers import Affine
from numpy_paligemma.model.rope import RopeTable
from numpy_paligemma.model.siglip import SiglipBlockWeights

# --- one line -------------------------------------------------------------------------


def linear(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """Map every vector: x (..., in), w (out, in), bias (out,) -> (..., out)."""
    raise NotImplementedError


def split_heads(x: np.ndarray, head_dim: int) -> np.ndarray:
    """Cut the last axis into heads: (B, T, N·H) -> (B, N, T, H)."""
    raise NotImplementedError


def merge_heads(x: np.ndarray) -> np.ndarray:
    """Join the heads again: (B, N, T, H) -> (B, T, N·H)."""
    raise NotImplementedError


def project(features: np.ndarray, w: Affine) -> np.ndarray:
    """Turn patch features into soft tokens: (B, P, in) -> (B, P, D)."""
    raise NotImplementedError


def embed_text(ids: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Look up ids (B, T) in w (V, D) -> (B, T, D); an id beyond V takes row 0."""
    raise NotImplementedError


def positions_of(attention_mask: np.ndarray) -> np.ndarray:
    """Count the real tokens (1 in the mask) from one: (B, T) -> same; padding gets 1."""
    raise NotImplementedError


# --- a few lines ----------------------------------------------------------------------


def softmax(x: np.ndarray) -> np.ndarray:
    """Turn the last axis into probabilities; scores may be as large as 1,000."""
    raise NotImplementedError


def gelu(x: np.ndarray) -> np.ndarray:
    """Damp negative numbers, by the tanh approximation; any shape."""
    raise NotImplementedError


def rms_norm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    """Scale every vector to unit root mean square, then by Gemma's gain."""
    raise NotImplementedError


def layer_norm(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float
) -> np.ndarray:
    """Centre every vector, scale it to unit variance, then by gain and bias."""
    raise NotImplementedError


def cut_patches(pixels: np.ndarray, patch: int) -> np.ndarray:
    """Cut pictures: (B, C, height, width) -> (B, P, C·patch·patch), row by row."""
    raise NotImplementedError


def fuse(soft: np.ndarray, text: np.ndarray, is_image: np.ndarray) -> np.ndarray:
    """Put soft tokens (pictures, P, D) into text (B, T, D) where `is_image` (B, T).

    ValueError if the places and the soft tokens are not equally many.
    """
    raise NotImplementedError


def prefix_lm_mask(
    attention_mask: np.ndarray, token_type_ids: np.ndarray | None = None
) -> np.ndarray:
    """Say which query sees which key: two (B, T) of integers -> bool (B, 1, T, T).

    `attention_mask` is 0 for padding, which nobody sees; `token_type_ids` is 0 for the
    prefix and 1 for the answer, and None where all is prefix.
    """
    raise NotImplementedError


def rope_table(
    positions: np.ndarray, head_dim: int, base: float, like: np.ndarray
) -> RopeTable:
    """Work out cosines and sines, each (B, 1, T, H/2) of `like`'s dtype."""
    raise NotImplementedError


def apply_rope(x: np.ndarray, rope: RopeTable) -> np.ndarray:
    """Turn every point of every head: (B, N, T, H) -> same."""
    raise NotImplementedError


def nucleus(probs: np.ndarray, top_p: float) -> np.ndarray:
    """Keep the fewest most likely tokens that reach `top_p`: (V,) -> (V,), sum one."""
    raise NotImplementedError


def sample_token(
    logits: np.ndarray, rng: np.random.Generator, *, temperature: float, top_p: float
) -> int:
    """Draw one token id of logits (V,) by one ``rng.random()``; greedy at nought."""
    raise NotImplementedError


# --- layers of layers -----------------------------------------------------------------


def grouped_query_attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None
) -> np.ndarray:
    """Let q (B, N, T, H) look at k and v (B, K, S, H) where the mask is True.

    Query head n reads key-value head n // (N/K). A query that sees nothing gets the
    plain mean of all values.
    """
    raise NotImplementedError


def gemma_mlp(x: np.ndarray, w: GemmaBlockWeights) -> np.ndarray:
    """Widen twice, let one gate the other, narrow: (B, T, D) -> same."""
    raise NotImplementedError


def siglip_mlp(x: np.ndarray, w: SiglipBlockWeights) -> np.ndarray:
    """Widen, bend, narrow: (B, P, D) -> same."""
    raise NotImplementedError


class LayerCache:
    """Room for one layer's keys and values, filled from the left."""

    @classmethod
    def empty(
        cls, batch: int, kv_heads: int, room: int, head_dim: int, like: np.ndarray
    ) -> "LayerCache":
        """Make room for `room` positions, of the dtype of `like`; `length` is nought."""
        raise NotImplementedError

    def extend(self, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Write T positions (B, K, T, H) behind the old ones; all so far, keys and values.

        ValueError if there is no room for T more.
        """
        raise NotImplementedError


# --- whole blocks ---------------------------------------------------------------------


def gemma_attention(
    x: np.ndarray,
    w: GemmaBlockWeights,
    rope: RopeTable,
    mask: np.ndarray | None,
    cache: LayerCache | None,
    c: TextConfig,
) -> np.ndarray:
    """Let the new tokens look at every token so far: (B, T, D) -> same."""
    raise NotImplementedError


def siglip_attention(
    x: np.ndarray, w: SiglipBlockWeights, c: VisionConfig
) -> np.ndarray:
    """Let every patch look at every patch, itself included: (B, P, D) -> same."""
    raise NotImplementedError


def gemma_block(
    x: np.ndarray,
    w: GemmaBlockWeights,
    rope: RopeTable,
    mask: np.ndarray | None,
    cache: LayerCache | None,
    c: TextConfig,
) -> np.ndarray:
    """Add attention, then a gated feed-forward, to the residual stream: (B, T, D)."""
    raise NotImplementedError


def siglip_block(x: np.ndarray, w: SiglipBlockWeights, c: VisionConfig) -> np.ndarray:
    """Add attention, then a feed-forward, to the residual stream: (B, P, D) -> same."""
    raise NotImplementedError
