"""The blocks of SigLIP and Gemma in PyTorch; parameters bear the published names.

The arithmetic is that of transformers' class; how it is carried out is chosen for
speed on a CPU under bfloat16 autocast: fused projections, attention written out.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .scenes import GRID
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
    return torch.split(F.linear(x, weight, bias), [len(y.weight) for y in layers], -1)


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
            y.reshape(*y.shape[:2], -1, self.head_dim).transpose(1, 2).float()
            for y in qkv
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
        B, S, _ = x.shape
        q = (
            q[:, first:]
            .reshape(B, S - first, self.heads, self.head_dim)
            .transpose(1, 2)
        )
        q = turn(q.float(), rope[:, :, None, first:])  # (B, N, T, H)
        rows = q.flatten(1, 2) * self.head_dim**-0.5  # one product serves all heads
        scores = torch.matmul(rows, k.transpose(1, 2)).float()
        scores = scores.view(B, self.heads, S - first, S) + hidden[:, None]
        probs = scores.softmax(-1).flatten(1, 2)  # (B, N·T, S)
        context = torch.matmul(probs, v).view(B, self.heads, S - first, self.head_dim)
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
