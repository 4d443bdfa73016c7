"""Let transformers work in float64 throughout: its casts to float32, each lifted by name.

A model of double precision in transformers still falls back to float32 in four places.
Each lift replaces one function by a twin that differs for float64 alone and hands
everything else to the original, so that float32 and bfloat16 models do not notice.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from lifts import all_but, by_name
from transformers.models.gemma.modeling_gemma import (
    GemmaRotaryEmbedding,
    GemmaTextScaledWordEmbedding,
)
from transformers.models.gemma2.modeling_gemma2 import (
    Gemma2RotaryEmbedding,
    Gemma2TextScaledWordEmbedding,
)


def norm_in_float64(patch: pytest.MonkeyPatch) -> None:
    """RMSNorm calls `x.float()` and `weight.float()`: leave float64 as it is."""
    real = torch.Tensor.float

    def keep(x: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        return x if x.dtype == torch.float64 else real(x, *args, **options)

    patch.setattr(torch.Tensor, "float", keep)


def softmax_in_float64(patch: pytest.MonkeyPatch) -> None:
    """Eager attention, SigLIP's and Gemma's, asks softmax for float32: do not ask."""
    real = torch.nn.functional.softmax

    def keep(
        x: torch.Tensor,
        dim: int | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> torch.Tensor:
        wanted = None if x.dtype == torch.float64 else dtype
        return real(x, dim=dim, dtype=wanted, **options)

    patch.setattr(torch.nn.functional, "softmax", keep)


def rope_in_float64(patch: pytest.MonkeyPatch) -> None:
    """Angles are float32 positions times float32 frequencies: work both out anew."""
    for family in (GemmaRotaryEmbedding, Gemma2RotaryEmbedding):
        patch.setattr(family, "forward", _float64_table(family.forward))


def _float64_table(real: Callable[..., Any]) -> Callable[..., Any]:
    def table(
        self: Any, x: torch.Tensor, position_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if x.dtype != torch.float64:
            return real(self, x, position_ids)
        H = self.config.head_dim
        exponents = torch.arange(0, H, 2, dtype=torch.float64) / H
        frequencies = self.config.rope_parameters["rope_theta"] ** -exponents
        angles = position_ids[:, :, None].double() * frequencies  # (B, T, H/2)
        twice = torch.cat((angles, angles), dim=-1)  # (B, T, H)
        return twice.cos(), twice.sin()

    return table


def embedding_scale_in_float64(patch: pytest.MonkeyPatch) -> None:
    """√D is a buffer that `double()` widens after it was rounded: use the number."""
    for family in (GemmaTextScaledWordEmbedding, Gemma2TextScaledWordEmbedding):
        patch.setattr(family, "forward", _float64_embedding(family.forward))


def _float64_embedding(real: Callable[..., Any]) -> Callable[..., Any]:
    def embed(self: Any, ids: torch.Tensor) -> torch.Tensor:
        if self.weight.dtype != torch.float64:
            return real(self, ids)
        return torch.nn.Embedding.forward(self, ids) * self.scalar_embed_scale

    return embed


LIFTS = by_name(
    norm_in_float64,
    softmax_in_float64,
    rope_in_float64,
    embedding_scale_in_float64,
)


def lifted(*, without: str | None = None) -> AbstractContextManager[None]:
    """Lift everything, or everything but one, and undo it afterwards."""
    return all_but(without, LIFTS)
