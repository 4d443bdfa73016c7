"""Where picture and text meet: the projector, one sequence, and who may see whom.

References
----------
Beyer et al. (2024), https://arxiv.org/abs/2407.07726, section 3.1 and figure 2;
big_vision/models/proj/paligemma/paligemma.py.
"""

import numpy as np

from numpy_paligemma.model.layers import Affine, Matrix, linear


def project(features: np.ndarray, w: Affine) -> np.ndarray:
    """Turn patch features into soft tokens: (B, P, vision D) -> (B, P, D).

    One affine map with no bend, and no scale: soft tokens enter the sequence as they
    are, while text embeddings enter multiplied by √D.
    """
    return linear(features, *w)


def embed_text(ids: np.ndarray, w: Matrix) -> np.ndarray:
    """Look tokens up: ids (B, T) -> (B, T, D), rows of `w` (V, D) times √D.

    The `<image>` id may lie beyond the table; `fuse` overwrites its places, so any row
    does, and row 0 is the one that transformers takes.
    """
    V, D = w.shape
    return w[np.where(ids < V, ids, 0)] * D**0.5


def fuse(soft: np.ndarray, text: np.ndarray, is_image: np.ndarray) -> np.ndarray:
    """Put the soft tokens at the `<image>` places, in order.

    Parameters
    ----------
    soft : float array, (pictures, P, D)
    text : float array, (B, T, D)
    is_image : bool array, (B, T)
        On the host: True where the prompt says `<image>`.

    Returns
    -------
    float array, (B, T, D)

    Raises
    ------
    ValueError
        If the places and the soft tokens are not equally many.
    """
    rows, columns = np.nonzero(is_image)
    flat = soft.reshape(-1, soft.shape[-1])  # (pictures·P, D)
    if len(rows) != len(flat):
        msg = f"the prompt has {len(rows)} <image> tokens, the pictures {len(flat)}"
        raise ValueError(msg)
    fused = text.copy()
    fused[rows, columns] = flat
    return fused


def positions_of(attention_mask: np.ndarray) -> np.ndarray:
    """Count the real tokens from one: (B, T) -> (B, T); padding gets one.

    RoPE only sees differences, so counting from nought would do as well; from one is
    what transformers does, and what its rotated queries and keys show.
    """
    counted = np.cumsum(attention_mask, axis=1)
    return np.where(attention_mask == 0, 1, counted)


def prefix_lm_mask(
    attention_mask: np.ndarray,
    token_type_ids: np.ndarray | None = None,
    window: int | None = None,
) -> np.ndarray:
    """Say who may see whom: the prefix all of itself, the answer what came before.

        key j is seen by query i when (j ≤ i or both are prefix) and j is no padding

    Picture, `<bos>`, prompt and newline are the prefix. So the picture sees the
    question that it is asked, and the prompt is not causal. A window w shortens "j ≤ i"
    to "i - w < j ≤ i": an answer sees the w last places, itself among them, and the
    prefix still all of itself.

    Parameters
    ----------
    attention_mask : integer array, (B, T)
        0 for padding.
    token_type_ids : integer array, (B, T), optional
        0 for prefix, 1 for answer; None means that all is prefix.
    window : int, optional
        In places, padding counted.

    Returns
    -------
    bool array, (B, 1, T, T), query by key
    """
    real = attention_mask[:, None, None, :] != 0  # (B, 1, 1, T)
    B, T = attention_mask.shape
    if token_type_ids is None:
        return np.broadcast_to(real, (B, 1, T, T))
    prefix = token_type_ids == 0
    both_prefix = prefix[:, None, :, None] & prefix[:, None, None, :]  # (B, 1, T, T)
    causal = np.tri(T, dtype=bool)  # (T, T)
    if window is not None:
        causal &= ~np.tri(T, k=-window, dtype=bool)
    return (causal | both_prefix) & real
