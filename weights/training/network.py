"""The whole PaliGemma in PyTorch, for training: a state dict like a published file.

The arithmetic is that of transformers' class; how it is carried out is chosen for
speed on a CPU under bfloat16 autocast: fused projections, attention written out.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import GemmaLayer, Holder, RMSNorm, SiglipLayer, Sizes
from .scenes import GRID, PATCH


class PaliGemma(nn.Module):
    """The whole model."""

    def __init__(self, c: Sizes) -> None:
        super().__init__()
        self.c = c
        embeddings = Holder(
            patch_embedding=nn.Conv2d(3, c.width, PATCH, PATCH),
            position_embedding=nn.Embedding(c.patches, c.width),
        )
        encoder = Holder(layers=nn.ModuleList(SiglipLayer(c) for _ in range(c.layers)))
        tower = Holder(
            embeddings=embeddings,
            encoder=encoder,
            post_layernorm=nn.LayerNorm(c.width, c.eps),
        )
        self.vision_tower = Holder(vision_model=tower)
        self.multi_modal_projector = Holder(linear=nn.Linear(c.width, c.width))
        decoder = Holder(
            embed_tokens=nn.Embedding(c.rows, c.width),
            layers=nn.ModuleList(GemmaLayer(c) for _ in range(c.layers)),
            norm=RMSNorm(c),
        )
        self.language_model = Holder(model=decoder)

    def see(self, pictures: Tensor) -> Tensor:
        """Look: (B, 112, 112, 3) uint8 -> (B, P, D) features."""
        tower = self.vision_tower.vision_model
        patches = pictures.float() / 127.5 - 1
        patches = patches.view(-1, GRID, PATCH, GRID, PATCH, 3)
        patches = patches.permute(0, 1, 3, 5, 2, 4).flatten(3).flatten(1, 2)
        filters = tower.embeddings.patch_embedding
        x = F.linear(patches, filters.weight.flatten(1), filters.bias)
        x = x + tower.embeddings.position_embedding.weight
        for layer in tower.encoder.layers:
            x = layer(x)
        y: Tensor = tower.post_layernorm(x)
        return y

    def read(
        self, features: Tensor, ids: Tensor, positions: Tensor, hidden: Tensor
    ) -> Tensor:
        """Decode: -> (B, T, D), the normed states of the text positions.

        Parameters
        ----------
        features : (B, P, D)
        ids : (B, T)
        positions : (B, T)
            Where the text stands; the picture stands at 0 … P - 1.
        hidden : (B, P + T, P + T)
        """
        decoder, c = self.language_model.model, self.c
        text = decoder.embed_tokens(ids) * math.sqrt(c.width)
        soft = self.multi_modal_projector.linear(features)
        x = torch.cat([soft.to(text.dtype), text], 1)  # (B, P + T, D)
        before = torch.arange(c.patches).expand(len(ids), -1)
        rope = self.rope(torch.cat([before, positions], 1))
        *layers, last = decoder.layers
        for layer in layers:
            x = layer(x, rope, hidden, 0)
        x = last(x, rope, hidden, c.patches)  # nobody asks the picture any more
        y: Tensor = decoder.norm(x)
        return y

    def rope(self, positions: Tensor) -> Tensor:
        """Tabulate the rotations: (B, S) -> (2, B, S, H/2)."""
        half = self.c.head_dim // 2
        speeds = self.c.rope_base ** -(torch.arange(half) / half)
        angles = positions[..., None] * speeds
        return torch.stack([angles.cos(), angles.sin()])

    def logits(self, states: Tensor) -> Tensor:
        """Score every token with the tied embedding, in float32."""
        return F.linear(states, self.language_model.model.embed_tokens.weight).float()
