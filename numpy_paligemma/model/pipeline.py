"""The whole model on one page: pixels and token ids in, logits out.

pixels -> patches -> features -> soft tokens -> one sequence -> logits -> token
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from numpy_paligemma.model.cache import LayerCache
from numpy_paligemma.model.config import PaliGemmaConfig
from numpy_paligemma.model.fusion import (
    embed_text,
    fuse,
    positions_of,
    prefix_lm_mask,
    project,
)
from numpy_paligemma.model.gemma import GemmaWeights, gemma_decoder, next_token_logits
from numpy_paligemma.model.layers import Affine
from numpy_paligemma.model.parallel import on_host
from numpy_paligemma.model.siglip import SiglipWeights, siglip_encoder
from numpy_paligemma.model.tap import Tap, no_tap, scoped


@dataclass(frozen=True, slots=True)
class PaliGemmaWeights:
    """Every learned number of the model."""

    vision: SiglipWeights
    projector: Affine  # (D, vision D), (D,)
    decoder: GemmaWeights


def encode_images(
    pixels: np.ndarray, w: PaliGemmaWeights, c: PaliGemmaConfig, *, tap: Tap = no_tap
) -> np.ndarray:
    """Look at pictures: (pictures, 3, height, width) -> soft tokens (pictures, P, D).

    Done once a picture; what is said about it later costs no second look.
    """
    features = siglip_encoder(pixels, w.vision, c.vision, tap=scoped(tap, "vision"))
    return tap("projector/out", project(features, w.projector))


def embed_prompt(
    ids: np.ndarray,
    soft: np.ndarray,
    w: PaliGemmaWeights,
    c: PaliGemmaConfig,
    *,
    tap: Tap = no_tap,
) -> np.ndarray:
    """Make one sequence of picture and prompt: ids (B, T) -> (B, T, D)."""
    text = tap("decoder/embed", embed_text(ids, w.decoder.embed))
    return tap("fusion/out", fuse(soft, text, ids == c.image_token_id))


def logits_everywhere(
    ids: np.ndarray,
    pixels: np.ndarray,
    attention_mask: np.ndarray,
    token_type_ids: np.ndarray | None,
    w: PaliGemmaWeights,
    c: PaliGemmaConfig,
    *,
    tap: Tap = no_tap,
) -> np.ndarray:
    """Work out the logits of every position in one pass, without a cache.

    Parameters
    ----------
    ids : integer array, (B, T)
    pixels : float array, (pictures, 3, height, width)
    attention_mask : integer array, (B, T), 0 for padding
    token_type_ids : integer array, (B, T), or None
        0 for prefix, 1 for answer; None means that all is prefix.
    w, c : the model's numbers and sizes
    tap : Tap
        Sees every intermediate, ``vision/embed`` to ``logits``.

    Returns
    -------
    float array, (B, T, V)
    """
    x = embed_prompt(ids, encode_images(pixels, w, c, tap=tap), w, c, tap=tap)
    mask = tap("fusion/mask", prefix_lm_mask(attention_mask, token_type_ids))
    mask = window_mask = np.asarray(mask, like=x)
    if (window := c.text.window) is not None:
        window_mask = prefix_lm_mask(attention_mask, token_type_ids, window)
        window_mask = np.asarray(tap("fusion/window_mask", window_mask), like=x)
    positions, at = positions_of(attention_mask), scoped(tap, "decoder")
    x = gemma_decoder(
        x, positions, mask, w.decoder, c.text, window_mask=window_mask, tap=at
    )
    return tap("logits", next_token_logits(x, w.decoder, c.text.logit_cap))


def prefill(
    ids: np.ndarray,
    soft: np.ndarray,
    attention_mask: np.ndarray,
    w: PaliGemmaWeights,
    c: PaliGemmaConfig,
    caches: Sequence[LayerCache],
    *,
    tap: Tap = no_tap,
) -> np.ndarray:
    """Read picture and prompt, fill the caches: logits of the first new token, (B, V).

    Arguments as `logits_everywhere`, but the pictures as `encode_images` has seen them,
    (pictures, P, D): one look does for many prompts. The prompts are padded on the
    left, so that the last position is everyone's newline.
    """
    x = embed_prompt(ids, soft, w, c, tap=tap)
    mask = key_mask(attention_mask, like=x)  # a prefix sees all of itself
    positions = positions_of(attention_mask)
    return _last_logits(x, positions, mask, mask, w, c, caches, tap)


def decode_step(
    ids: np.ndarray,
    attention_mask: np.ndarray,
    w: PaliGemmaWeights,
    c: PaliGemmaConfig,
    caches: Sequence[LayerCache],
    *,
    tap: Tap = no_tap,
) -> np.ndarray:
    """Read one new token a row: logits of the next, (B, V).

    Arguments as `prefill`, but ids (B,), and attention_mask (B, S) of everything so
    far, the new token included.
    """
    x = tap("decoder/embed", embed_text(ids[:, None], w.decoder.embed))  # (B, 1, D)
    mask = key_mask(attention_mask, like=x)
    window_mask = mask
    if c.text.window is not None:
        window_mask = key_mask(attention_mask, like=x, window=c.text.window)
    positions = positions_of(attention_mask)[:, -1:]  # (B, 1)
    return _last_logits(x, positions, mask, window_mask, w, c, caches, tap)


def _last_logits(
    x: np.ndarray,
    positions: np.ndarray,
    mask: np.ndarray | None,
    window_mask: np.ndarray | None,
    w: PaliGemmaWeights,
    c: PaliGemmaConfig,
    caches: Sequence[LayerCache],
    tap: Tap,
) -> np.ndarray:
    """Carry new tokens through the decoder; logits of the last alone, (B, V)."""
    at = scoped(tap, "decoder")
    x = gemma_decoder(
        x, positions, mask, w.decoder, c.text, caches, window_mask=window_mask, tap=at
    )
    return tap("logits", next_token_logits(x[:, -1], w.decoder, c.text.logit_cap))


def key_mask(
    attention_mask: np.ndarray, like: np.ndarray, window: int | None = None
) -> np.ndarray | None:
    """Hide padded keys from every query: (B, S) -> bool (B, 1, 1, S), or None.

    While one forward pass reads a prefix, or a single new token, nothing else is
    hidden, unless that token looks through a window: then all but the last `window`
    places are. Where nothing is hidden there is no mask.
    """
    seen = attention_mask != 0
    if window is not None:
        seen[:, :-window] = False
    if on_host(seen) and np.all(seen):  # a device's answer would have to be fetched
        return None
    return np.asarray(seen[:, None, None, :], like=like)


def empty_caches(
    batch: int, room: int, w: PaliGemmaWeights, c: PaliGemmaConfig
) -> tuple[LayerCache, ...]:
    """Make one empty cache a block, for `batch` rows of `room` positions."""
    sizes = (batch, c.text.kv_heads, room, c.text.head_dim)
    like = w.decoder.final_norm
    return tuple(LayerCache.empty(*sizes, like=like) for _ in w.decoder.blocks)
