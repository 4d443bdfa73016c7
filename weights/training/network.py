"""PaliGemma in PyTorch, for training: parameters bear the published checkpoint's names.

The arithmetic is that of transformers' class; how it is carried out is chosen for
speed on a CPU under bfloat16 autocast: fused projections, attention written out.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .painting import GRID, PATCH
from .tokenizer import ROWS


@dataclass(frozen=True)
class Sizes:
    """The miniature's measures."""

    width: int = 128
    layers: int = 4
    heads: int = 4
    vision_mlp: int = 512
    text_mlp: int = 512
    rows: int = ROWS
    patches: int = GRID * GRID
    eps: float = 1e-6
    rope_base: float = 10000.0

    @property
    def head_dim(self) -> int:
        """The width of one head."""
        return self.width // self.heads


class Holder(nn.Module):
    """Children under names of one's choice: the levels of the published names."""

    def __init__(self, **children: nn.Module) -> None:
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Promise nothing about a child."""


def fused(x: Tensor, *layers: nn.Linear) -> tuple[Tensor, ...]:
    """Apply several linear layers as one product."""
    weight = torch.cat([layer.weight for layer in layers])
    biased = layers[0].bias is not None
    bias = torch.cat([layer.bias for layer in layers]) if biased else None
    return F.linear(x, weight, bias).split([len(y.weight) for y in layers], -1)


class SiglipAttention(nn.Module):
    """Multi-head attention of all patches to all patches."""

    def __init__(self, c: Sizes) -> None:
        super().__init__()
        self.head_dim = c.head_dim
        self.q_proj, self.k_proj = (
            nn.Linear(c.width, c.width),
            nn.Linear(c.width, c.width),
        )
        self.v_proj, self.out_proj = (
            nn.Linear(c.width, c.width),
            nn.Linear(c.width, c.width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Attend: (B, P, D) -> (B, P, D)."""
        qkv = fused(x, self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (
            y.unflatten(-1, (-1, self.head_dim)).transpose(1, 2).float() for y in qkv
        )
        # the CPU's fused attention is slow backwards in bfloat16
        with torch.autocast("cpu", enabled=False):
            context = F.scaled_dot_product_attention(q, k, v)
        y: Tensor = self.out_proj(context.transpose(1, 2).flatten(2))
        return y


class SiglipLayer(nn.Module):
    """One block of the vision tower."""

    def __init__(self, c: Sizes) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(c.width, c.eps)
        self.self_attn = SiglipAttention(c)
        self.layer_norm2 = nn.LayerNorm(c.width, c.eps)
        self.mlp = Holder(
            fc1=nn.Linear(c.width, c.vision_mlp), fc2=nn.Linear(c.vision_mlp, c.width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add attention, then an MLP."""
        x = x + self.self_attn(self.layer_norm1(x))
        y = F.gelu(self.mlp.fc1(self.layer_norm2(x)), approximate="tanh")
        return x + self.mlp.fc2(y)


class RMSNorm(nn.Module):
    """Gemma's: x / √(mean(x²) + eps) · (1 + weight)."""

    def __init__(self, c: Sizes) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(c.width))
        self.eps = c.eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise in float32."""
        x = x.float()
        return (
            x
            * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
            * (1 + self.weight)
        )


class GemmaAttention(nn.Module):
    """Four query heads that share one key-value head."""

    def __init__(self, c: Sizes) -> None:
        super().__init__()
        self.heads, self.head_dim = c.heads, c.head_dim
        self.q_proj = nn.Linear(c.width, c.width, bias=False)
        self.k_proj = nn.Linear(c.width, c.head_dim, bias=False)
        self.v_proj = nn.Linear(c.width, c.head_dim, bias=False)
        self.o_proj = nn.Linear(c.width, c.width, bias=False)

    def forward(self, x: Tensor, rope: Tensor, hidden: Tensor, first: int) -> Tensor:
        """Attend from the positions `first` onwards.

        Parameters
        ----------
        x : (B, S, D)
        rope : (2, B, S, H/2), cosines and sines
        hidden : (B, T, S), -inf where a query must not look, else 0
        first : int
            S - T: with T < S only the last positions ask.
        """
        q, k, v = fused(x, self.q_proj, self.k_proj, self.v_proj)
        k = turn(k.float(), rope)  # (B, S, H)
        q = q[:, first:].unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)
        q = turn(q.float(), rope[:, :, None, first:])  # (B, N, T, H)
        rows = q.flatten(1, 2) * self.head_dim**-0.5  # one product serves all heads
        scores = torch.matmul(rows, k.transpose(1, 2)).float()
        scores = scores.unflatten(1, (self.heads, -1)) + hidden[:, None]
        probs = scores.softmax(-1).flatten(1, 2)  # (B, N·T, S)
        context = torch.matmul(probs, v).unflatten(1, (self.heads, -1))
        y: Tensor = self.o_proj(context.transpose(1, 2).flatten(2))
        return y


def turn(x: Tensor, rope: Tensor) -> Tensor:
    """Rotate the points (x[i], x[i + H/2])."""
    a, b = x.chunk(2, dim=-1)
    cos, sin = rope
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class GemmaLayer(nn.Module):
    """One block of the decoder."""

    def __init__(self, c: Sizes) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(c)
        self.self_attn = GemmaAttention(c)
        self.post_attention_layernorm = RMSNorm(c)
        self.mlp = Holder(
            gate_proj=nn.Linear(c.width, c.text_mlp, bias=False),
            up_proj=nn.Linear(c.width, c.text_mlp, bias=False),
            down_proj=nn.Linear(c.text_mlp, c.width, bias=False),
        )

    def forward(self, x: Tensor, rope: Tensor, hidden: Tensor, first: int) -> Tensor:
        """Add attention, then a GeGLU; keep the positions from `first` onwards."""
        y = self.self_attn(self.input_layernorm(x), rope, hidden[:, first:], first)
        x = x[:, first:] + y
        y = self.post_attention_layernorm(x)
        gate, up = fused(y, self.mlp.gate_proj, self.mlp.up_proj)
        return x + self.mlp.down_proj(F.gelu(gate, approximate="tanh") * up)


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
        patches = patches.unflatten(2, (GRID, PATCH)).unflatten(1, (GRID, PATCH))
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
