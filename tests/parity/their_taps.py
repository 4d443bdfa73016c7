"""Every tap of a forward pass of transformers, under our names.

Forward hooks give what is a module's input or output, by the table of places. What
arises inside a module (rotated queries and keys, scores, probabilities, the mask) is
seen where eager attention is called.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import pytest
import torch
from transformers import PaliGemmaForConditionalGeneration
from transformers.models.gemma import modeling_gemma
from transformers.models.gemma2 import modeling_gemma2
from transformers.models.siglip import modeling_siglip

from numpy_paligemma.checkpoints.taps import Place, every_tap, published_module
from numpy_paligemma.model.config import PaliGemmaConfig

Taps = dict[str, np.ndarray]


class Keeper(Protocol):
    """Takes every tap: a dictionary, or who compares it and lets it go."""

    def __setitem__(self, name: str, x: np.ndarray, /) -> None: ...


def their_taps(
    model: PaliGemmaForConditionalGeneration,
    inputs: dict[str, np.ndarray],
    c: PaliGemmaConfig,
) -> Taps:
    """Run one forward pass of an eager model, without a cache, and keep every tap."""
    kept: Taps = {}
    hand_their_taps_to(kept, model, inputs, c)
    return kept


def hand_their_taps_to(
    kept: Keeper,
    model: PaliGemmaForConditionalGeneration,
    inputs: dict[str, np.ndarray],
    c: PaliGemmaConfig,
) -> None:
    """Put every tap down as it arises, not quite in our order; bfloat16 as float32."""
    with _hooks(model, c, kept), _eager_attention(model, c, kept):
        logits = their_logits(model, inputs)
    kept["logits"] = logits


def their_logits(
    model: PaliGemmaForConditionalGeneration, inputs: dict[str, np.ndarray]
) -> np.ndarray:
    """Work out all logits, in the model's dtype, positions counted from the mask."""
    tensors = {name: torch.from_numpy(x) for name, x in inputs.items()}
    tensors["pixel_values"] = tensors["pixel_values"].to(model.dtype)
    counted = tensors["attention_mask"].cumsum(1)
    positions = torch.where(tensors["attention_mask"] == 0, 1, counted)
    with torch.no_grad():
        out = model(**tensors, position_ids=positions, use_cache=False)
    return as_numpy(out.logits)


@contextmanager
def _hooks(
    model: PaliGemmaForConditionalGeneration, c: PaliGemmaConfig, kept: Keeper
) -> Iterator[None]:
    """Keep the taps that are inputs or outputs of modules."""
    handles = []
    modules = {published_module(path): m for path, m in model.named_modules()}
    for tap, place in every_tap(c).items():
        if place.end == "inside" or not place.module:  # that is the whole model
            continue

        def keep(
            _: Any, args: Any, out: Any, tap: str = tap, place: Place = place
        ) -> None:
            x = args[0] if place.end == "input" else out
            kept[tap] = as_numpy(_split(x, tap, c) if place.heads else x)

        handles.append(modules[place.module].register_forward_hook(keep))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _eager_attention(
    model: PaliGemmaForConditionalGeneration, c: PaliGemmaConfig, kept: Keeper
) -> Iterator[None]:
    """Keep what only attention itself sees."""
    room = {}  # the attention module -> the tap's path up to its name
    paths = {published_module(path): m for path, m in model.named_modules()}
    for tap, place in every_tap(c).items():
        if tap.endswith("/scores"):
            room[paths[place.module]] = tap.removesuffix("scores")

    def watched(eager: Any) -> Any:
        def attend(
            module: Any, q: Any, k: Any, v: Any, mask: Any, **options: Any
        ) -> Any:
            at = room[module]
            out, probs = eager(module, q, k, v, mask, **options)
            kept[at + "q"], kept[at + "k"] = as_numpy(q), as_numpy(k)
            with _softmax_arguments() as seen:  # once more unmasked, for the scores
                eager(module, q, k, v, None, **options)
            kept[at + "scores"], kept[at + "probs"] = as_numpy(seen[0]), as_numpy(probs)
            if mask is not None:
                windowed = getattr(module, "sliding_window", None) is not None
                name = "fusion/window_mask" if windowed else "fusion/mask"
                kept[name] = as_numpy(mask) == 0
            return out, probs

        return attend

    with pytest.MonkeyPatch.context() as patch:
        for module in (modeling_gemma, modeling_gemma2, modeling_siglip):
            real = module.eager_attention_forward
            patch.setattr(module, "eager_attention_forward", watched(real))
        yield


@contextmanager
def _softmax_arguments() -> Iterator[list[torch.Tensor]]:
    """Keep what goes into every softmax."""
    real, seen = torch.nn.functional.softmax, []

    def keep(x: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        seen.append(x)
        return real(x, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "softmax", keep)
        yield seen


def as_numpy(x: torch.Tensor) -> np.ndarray:
    """Hand an array over; NumPy has no bfloat16, so that becomes float32."""
    return (x.float() if x.dtype == torch.bfloat16 else x).numpy()


def _split(x: torch.Tensor, tap: str, c: PaliGemmaConfig) -> torch.Tensor:
    """Cut a projection's output into heads: (B, T, N·H) -> (B, N, T, H)."""
    B, T, _ = x.shape
    H = c.vision.head_dim if tap.startswith("vision") else c.text.head_dim
    return x.reshape(B, T, -1, H).transpose(1, 2)
