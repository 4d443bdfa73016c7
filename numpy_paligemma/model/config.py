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
    """Sizes of the Gemma decoder: Gemma 2B in PaliGemma 1, a Gemma 2 in PaliGemma 2.

    The fields from `post_norms` on are what Gemma 2 adds; Gemma 1 has none of it.
    """

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
    post_norms: bool = False  # a norm behind attention and MLP, too
    query_scale: float | None = None  # what scores are multiplied by; None: 1/√H
    score_cap: float | None = None  # scores are bent to stay between plus and minus it
    logit_cap: float | None = None  # and so are logits
    window: int | None = None  # how many keys a sliding block sees at most
    sliding_blocks: frozenset[int] = frozenset()  # the numbers of those blocks


@dataclass(frozen=True, slots=True)
class PaliGemmaConfig:
    """Sizes of the whole, and the token ids with a meaning of their own."""

    vision: VisionConfig
    text: TextConfig
    image_token_id: int
    bos_token_id: int
    eos_token_ids: tuple[int, ...]
    pad_token_id: int
