"""Gains of norms fitted to what one side says goes in and comes out."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from numpy_paligemma.model.config import PaliGemmaConfig
from numpy_paligemma.model.gemma import GemmaWeights, PostNorms
from numpy_paligemma.model.layers import Norm
from numpy_paligemma.model.siglip import SiglipWeights
from numpy_paligemma.traces.evidence.known import Model

Given = Callable[[str], np.ndarray | None]


def with_norms(model: Model, given: Given, tap: str) -> Model:
    """Fit the gains of a block's norms to what a side says goes in and comes out.

    A norm's gain is its output over its normalised input, the same for every token:
    what the first lines up with, the others confirm.
    """
    w, c = model
    if tap.startswith("vision/"):
        return replace(w, vision=_eye_norms(w.vision, c, given, tap)), c
    return replace(w, decoder=_decoder_norms(w.decoder, c, given, tap)), c


def _number(tap: str) -> int | None:
    rest = tap.partition("/block")[2]
    return int(rest[:2]) if rest[:2].isdecimal() else None


def _eye_norms(
    w: SiglipWeights, c: PaliGemmaConfig, given: Given, tap: str
) -> SiglipWeights:
    i, eps = _number(tap), c.vision.norm_eps
    if i is None:
        last = f"vision/block{c.vision.depth - 1:02}/out"
        return replace(
            w, final_norm=_layer(given(last), given("vision/out"), eps) or w.final_norm
        )
    at = f"vision/block{i:02}/"
    into = f"vision/block{i - 1:02}/out" if i else "vision/embed"
    first = _layer(given(into), given(at + "attention_norm"), eps)
    second = _layer(given(at + "mid"), given(at + "mlp_norm"), eps)
    block = w.blocks[i]
    block = replace(
        block,
        attention_norm=first or block.attention_norm,
        mlp_norm=second or block.mlp_norm,
    )
    return replace(w, blocks=(*w.blocks[:i], block, *w.blocks[i + 1 :]))


def _decoder_norms(
    w: GemmaWeights, c: PaliGemmaConfig, given: Given, tap: str
) -> GemmaWeights:
    i, eps = _number(tap), c.text.norm_eps
    if i is None:
        last = f"decoder/block{c.text.depth - 1:02}/out"
        return replace(
            w, final_norm=_rms(given(last), given("decoder/out"), eps, w.final_norm)
        )
    at = f"decoder/block{i:02}/"
    into = f"decoder/block{i - 1:02}/out" if i else "fusion/out"
    block = w.blocks[i]
    post = block.post_norms
    if post is not None:
        post = PostNorms(
            _rms(
                given(at + "attention/out"),
                given(at + "attention_post_norm"),
                eps,
                post.attention,
            ),
            _rms(given(at + "mlp/out"), given(at + "mlp_post_norm"), eps, post.mlp),
        )
    block = replace(
        block,
        attention_norm=_rms(
            given(into), given(at + "attention_norm"), eps, block.attention_norm
        ),
        mlp_norm=_rms(given(at + "mid"), given(at + "mlp_norm"), eps, block.mlp_norm),
        post_norms=post,
    )
    return replace(w, blocks=(*w.blocks[:i], block, *w.blocks[i + 1 :]))


def _rms(
    x: np.ndarray | None, y: np.ndarray | None, eps: float, unknown: np.ndarray
) -> np.ndarray:
    """Fit RMSNorm's gain, less one."""
    if x is None or y is None or x.shape != y.shape or x[..., 0].size < 2:
        return unknown
    n = (x / np.sqrt(np.mean(np.square(x), -1, keepdims=True) + eps)).reshape(
        -1, x.shape[-1]
    )
    y = y.reshape(n.shape)
    return np.sum(n * y, 0) / np.sum(n * n, 0) - 1


def _layer(x: np.ndarray | None, y: np.ndarray | None, eps: float) -> Norm | None:
    """Fit LayerNorm's gain and bias."""
    if x is None or y is None or x.shape != y.shape or x[..., 0].size < 3:
        return None
    centred = x - np.mean(x, -1, keepdims=True)
    n = centred / np.sqrt(np.mean(np.square(centred), -1, keepdims=True) + eps)
    n, y = n.reshape(-1, x.shape[-1]), y.reshape(-1, x.shape[-1])
    mean_n, mean_y = n.mean(0), y.mean(0)
    gain = np.sum((n - mean_n) * (y - mean_y), 0) / np.sum(np.square(n - mean_n), 0)
    return Norm(gain, mean_y - gain * mean_n)
