"""Attention: heads cut apart, scores, probabilities, and what they gather."""

import numpy as np

from numpy_paligemma.model.layers import soft_cap, softmax
from numpy_paligemma.model.parallel import stacked_product
from numpy_paligemma.model.tap import Tap, no_tap


def split_heads(x: np.ndarray, head_dim: int) -> np.ndarray:
    """Cut the last axis into heads: (B, T, N·H) -> (B, N, T, H)."""
    B, T, _ = x.shape
    return x.reshape(B, T, -1, head_dim).transpose(0, 2, 1, 3)


def merge_heads(x: np.ndarray) -> np.ndarray:
    """Join the heads again: (B, N, T, H) -> (B, T, N·H)."""
    B, N, T, H = x.shape
    return x.transpose(0, 2, 1, 3).reshape(B, T, N * H)


def grouped_query_attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    scale: float | None = None,
    cap: float | None = None,
    tap: Tap = no_tap,
) -> np.ndarray:
    """Let N query heads look through K key-value heads, N/K queries to each.

        softmax(q · kᵀ / √H) · v, query head n reading key-value head n // (N/K)

    K = N is multi-head attention (SigLIP), K = 1 multi-query attention (Gemma 2B).

    Parameters
    ----------
    q : float array, (B, N, T, H)
    k, v : float array, (B, K, S, H)
    mask : bool array, broadcastable to (B, N, T, S), optional
        True where a query may look; None where every query sees every key. A query
        that sees nothing (only padding can) gets the plain mean, as in transformers.
    scale : float, optional
        What stands for 1/√H; Gemma 2 27B has another number than its heads' size.
    cap : float, optional
        Gemma 2's: scores are bent to lie within it, before the mask.
    tap : Tap
        Sees ``scores`` before the mask and ``probs``, both (B, N, T, S).

    Returns
    -------
    float array, (B, N, T, H)

    References
    ----------
    Vaswani et al. (2017), https://arxiv.org/abs/1706.03762, equation 1; Ainslie et al.
    (2023), https://arxiv.org/abs/2305.13245, section 2.2.
    """
    B, N, T, H = q.shape
    K, S = k.shape[1], k.shape[2]
    G = N // K

    grouped = q.reshape(B, K, G * T, H)  # one matmul serves a whole group
    scores = stacked_product(grouped, np.swapaxes(k, -1, -2))  # (B, K, G·T, S)
    scores *= H**-0.5 if scale is None else scale
    scores = soft_cap(scores, cap).reshape(B, N, T, S)
    scores = tap("scores", scores)
    if mask is not None:
        # the lowest finite number, not -inf: a row that sees nothing stays finite
        scores = np.where(mask, scores, float(np.finfo(scores.dtype).min))
    probs = tap("probs", softmax(scores))

    context = stacked_product(probs.reshape(B, K, G * T, S), v)  # (B, K, G·T, H)
    return context.reshape(B, N, T, H)
