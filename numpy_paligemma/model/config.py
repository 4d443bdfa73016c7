"""The sizes of a model: what the formulas need to know besides the weights."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """Sizes of the SigLIP encoder (SigLIP-So400m/14 in the published checkpoints)."""

    image_size: int  # pixels a side
    patch_size: int  # pixels a side
    channels: int
    width: int
    depth: int
    heads: int
    mlp_width: int
    norm_eps: float

    @property
    def grid(self) -> int:
        """Patches a side."""
        return self.image_size // self.patch_size

    @property
    def patches(self) -> int:
        """Patches a picture (P), which is also its number of soft tokens."""
        return self.grid**2

    @property
    def head_dim(self) -> int:
        """Channels a head (H)."""
        return self.width // self.heads


@dataclass(frozen=True, slots=True)
class TextConfig:
    """Sizes of the Gemma decoder (Gemma 2B in the published checkpoints)."""

    vocab_size: int
    width: int
    depth: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_width: int
    norm_eps: float
    rope_base: float
    tied: bool = True  # the head is the embedding, unless the file has another


@dataclass(frozen=True, slots=True)
class PaliGemmaConfig:
    """Sizes of the whole, and the token ids with a meaning of their own."""

    vision: VisionConfig
    text: TextConfig
    image_token_id: int
    bos_token_id: int
    eos_token_ids: tuple[int, ...]
    pad_token_id: int
