"""Random arrays and weights for the exercises, always the same ones.

Sizes all differ, so that no axis can stand for another; no norm, gain or bias is left at
nought or one, where mistakes hide; eps is large enough to show.
"""

import numpy as np

from numpy_paligemma.model.cache import LayerCache
from numpy_paligemma.model.config import TextConfig, VisionConfig
from numpy_paligemma.model.gemma import GemmaBlockWeights
from numpy_paligemma.model.layers import Affine, Norm
from numpy_paligemma.model.rope import RopeTable, rope_table
from numpy_paligemma.model.siglip import SiglipBlockWeights

TEXT = TextConfig(
    vocab_size=13,
    width=10,
    depth=1,
    heads=8,
    kv_heads=2,
    head_dim=6,
    mlp_width=11,
    norm_eps=1e-4,
    rope_base=50.0,
)
VISION = VisionConfig(
    image_size=6,
    patch_size=2,
    channels=3,
    width=20,
    depth=1,
    heads=5,
    mlp_width=11,
    norm_eps=1e-4,
)


def read_only(x: np.ndarray) -> np.ndarray:
    """Forbid a layer to write into what it is given."""
    x.flags.writeable = False
    return x


class Draw:
    """Random arrays of one dtype, all of them read-only."""

    def __init__(self, dtype: type[np.floating]) -> None:
        self.dtype = dtype
        self.rng = np.random.default_rng(4)

    def __call__(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        """Draw a normal array with a mean of its own."""
        x = (scale * (self.rng.standard_normal(shape) + 0.3)).astype(self.dtype)
        return read_only(x)

    def matrix(self, out: int, into: int) -> np.ndarray:
        """Draw a matrix, small enough to keep the size of what it maps."""
        return self(out, into, scale=into**-0.5)

    def affine(self, out: int, into: int) -> Affine:
        """Draw a matrix and a bias."""
        return Affine(self.matrix(out, into), self(out))

    def probs(self, size: int) -> np.ndarray:
        """Draw a distribution."""
        return read_only(self.rng.dirichlet(np.full(size, 0.5)).astype(self.dtype))

    def gemma(self) -> GemmaBlockWeights:
        """Draw a Gemma block's weights."""
        D, F, H = TEXT.width, TEXT.mlp_width, TEXT.head_dim
        queries, keys = TEXT.heads * H, TEXT.kv_heads * H
        return GemmaBlockWeights(
            attention_norm=self(D),
            q_proj=self.matrix(queries, D),
            k_proj=self.matrix(keys, D),
            v_proj=self.matrix(keys, D),
            o_proj=self.matrix(D, queries),
            mlp_norm=self(D),
            gate_proj=self.matrix(F, D),
            up_proj=self.matrix(F, D),
            down_proj=self.matrix(D, F),
        )

    def siglip(self) -> SiglipBlockWeights:
        """Draw a SigLIP block's weights."""
        D, F = VISION.width, VISION.mlp_width
        return SiglipBlockWeights(
            attention_norm=Norm(self(D), self(D)),
            q_proj=self.affine(D, D),
            k_proj=self.affine(D, D),
            v_proj=self.affine(D, D),
            out_proj=self.affine(D, D),
            mlp_norm=Norm(self(D), self(D)),
            fc1=self.affine(F, D),
            fc2=self.affine(D, F),
        )

    def rope(self, B: int, T: int, head_dim: int) -> RopeTable:
        """Draw positions, and work out their table."""
        positions = self.rng.integers(0, 40, (B, T))
        return rope_table(positions, head_dim, TEXT.rope_base, like=self(1))

    def cached(self, B: int, held: int, room: int) -> LayerCache:
        """Draw a cache of `held` positions with `room` for more."""
        sizes = (B, TEXT.kv_heads, held, TEXT.head_dim)
        kept = LayerCache.empty(*sizes[:2], held + room, sizes[3], like=self(1))
        kept.extend(self(*sizes), self(*sizes))
        return kept
