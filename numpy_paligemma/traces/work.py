"""The arithmetic and the bytes behind every tapped array, counted from shapes.

Arithmetic is that of matrix products, where a multiplication and an addition are two;
what is done number by number (norms, GELU, softmax, rotation) is left out. Bytes are
those that a step has to read at least: each weight once, as it is held, and keys and
values once; activations are left out.

    product   (R, in) · (out, in)ᵀ              2 · R · in · out FLOP, the matrix
    scores    (B, N, T, H) · (B, K, S, H)ᵀ      2 · B · N · T · S · H FLOP, the keys
    context   (B, N, T, S) · (B, K, S, H)       2 · B · N · T · S · H FLOP, the values
    look-up   R rows of (V, D)                  the rows
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, cast

import numpy as np

from numpy_paligemma.model.layers import Matrix
from numpy_paligemma.model.pipeline import PaliGemmaWeights
from numpy_paligemma.paligemma import PaliGemma


class Work(NamedTuple):
    """What was done and read to make an array."""

    flops: int = 0
    read: int = 0  # bytes


class Held(Protocol):
    """A matrix, however it is held."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes, (out, in)."""

    @property
    def nbytes(self) -> int:
        """Bytes as held."""


class WorkCounter:
    """Counts the work behind one array after the other, in the order of the taps.

    Called as a tap is, with name and array. The order matters: what attention gathers
    has the size of the scores before it.
    """

    def __init__(self, model: PaliGemma) -> None:
        self.matrices = _matrices(model.weights)
        self.embed = _held(model.weights.decoder.embed)
        vision, text = model.config.vision, model.config.text
        self.heads = {  # key-value heads and their size
            "vision": (vision.heads, vision.head_dim),
            "decoder": (text.kv_heads, text.head_dim),
        }
        self.looked = Work()

    def __call__(self, name: str, x: np.ndarray) -> Work:
        """Count what was done since the tap before, to make `x`."""
        tower, _, rest = name.partition("/")
        parts = [_product(x, self.matrices.get(name, ()))]
        if name == "decoder/embed":
            rows, width = self.embed.shape
            parts.append(Work(0, x.size // width * (self.embed.nbytes // rows)))
        elif rest.endswith("attention/scores"):
            self.looked = _look(x, *self.heads[tower])
            parts.append(self.looked)  # every query at every key
        elif rest.endswith("attention/out"):
            parts.append(self.looked)  # every probability times every value
        return Work(*map(sum, zip(*parts, strict=True)))


def _product(x: np.ndarray, matrices: Sequence[Held]) -> Work:
    """Count products of equally many rows, of which the last one made `x`."""
    if not matrices:
        return Work()
    rows = x.size // matrices[-1].shape[0]
    flops = sum(2 * rows * m.shape[0] * m.shape[1] for m in matrices)
    return Work(flops, sum(m.nbytes for m in matrices))


def _look(scores: np.ndarray, kv_heads: int, head_dim: int) -> Work:
    """Count one of attention's two products by its scores, (B, N, T, S)."""
    B, _, _, S = scores.shape
    numbers = B * kv_heads * S * head_dim
    return Work(2 * scores.size * head_dim, numbers * scores.dtype.itemsize)


def _matrices(w: PaliGemmaWeights) -> dict[str, tuple[Held, ...]]:
    """Say which matrices stand between each tap and the one before it."""
    found: dict[str, tuple[Matrix, ...]] = {
        "vision/embed": (w.vision.patch_embed.weight,),
        "projector/out": (w.projector.weight,),
        "logits": (w.decoder.head,),
    }
    for i, eye in enumerate(w.vision.blocks):
        at = f"vision/block{i:02d}/"
        found[at + "attention/q"] = (eye.q_proj.weight,)
        found[at + "attention/k"] = (eye.k_proj.weight,)
        found[at + "attention/v"] = (eye.v_proj.weight,)
        found[at + "attention/out"] = (eye.out_proj.weight,)
        found[at + "mlp/out"] = (eye.fc1.weight, eye.fc2.weight)
    for i, block in enumerate(w.decoder.blocks):
        at = f"decoder/block{i:02d}/"
        found[at + "attention/q_proj"] = (block.q_proj,)
        found[at + "attention/k_proj"] = (block.k_proj,)
        found[at + "attention/v_proj"] = (block.v_proj,)
        found[at + "attention/out"] = (block.o_proj,)
        found[at + "mlp/out"] = (block.gate_proj, block.up_proj, block.down_proj)
    return {name: tuple(map(_held, matrices)) for name, matrices in found.items()}


def _held(matrix: Matrix) -> Held:
    """Read a weight's sizes, which stored matrices have as arrays do."""
    return cast("Held", matrix)
