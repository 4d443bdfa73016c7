"""Where every tap lies in the published module tree, in the order of the model.

Whoever dumps activations elsewhere has module paths (Hugging Face's forward hooks give
nothing else); this table says which tap each is. One line a tap, the names of modules
as the published tensors have them; `published_module` brings other layouts to these.
"""

from dataclasses import dataclass, replace
from typing import Literal

from numpy_paligemma.checkpoints.names import (
    DECODER,
    PROJECTOR,
    VISION,
    canonical_name,
)
from numpy_paligemma.model.config import PaliGemmaConfig


@dataclass(frozen=True, slots=True)
class Place:
    """What a tap is to a module: its output, its input, or made and used inside it."""

    module: str  # {} stands for the number of the block
    end: Literal["output", "input", "inside"]
    heads: bool = False  # the module holds (B, T, N·H) where the tap is (B, N, T, H)


def _output(module: str, *, heads: bool = False) -> Place:
    return Place(module, "output", heads)


def _input(module: str) -> Place:
    return Place(module, "input")


def _inside(module: str) -> Place:
    return Place(module, "inside")


_EYE = VISION + "encoder.layers.{}"
_BLOCK = DECODER + "layers.{}"

VISION_START = {"vision/embed": _output(VISION + "embeddings")}

VISION_BLOCK = {
    "vision/block{:02}/attention_norm": _output(_EYE + ".layer_norm1"),
    "vision/block{:02}/attention/q": _output(_EYE + ".self_attn.q_proj", heads=True),
    "vision/block{:02}/attention/k": _output(_EYE + ".self_attn.k_proj", heads=True),
    "vision/block{:02}/attention/v": _output(_EYE + ".self_attn.v_proj", heads=True),
    "vision/block{:02}/attention/scores": _inside(_EYE + ".self_attn"),
    "vision/block{:02}/attention/probs": _inside(_EYE + ".self_attn"),
    "vision/block{:02}/attention/out": _output(_EYE + ".self_attn.out_proj"),
    "vision/block{:02}/mid": _input(_EYE + ".layer_norm2"),
    "vision/block{:02}/mlp_norm": _output(_EYE + ".layer_norm2"),
    "vision/block{:02}/mlp/out": _output(_EYE + ".mlp"),
    "vision/block{:02}/out": _output(_EYE),
}

BRIDGE = {
    "vision/out": _output(VISION + "post_layernorm"),
    "projector/out": _output(PROJECTOR),
    # with √D in it since transformers 5.4; before that the scale came after the fusion
    "decoder/embed": _output(DECODER + "embed_tokens"),
    "fusion/out": _input(DECODER + "layers.0"),
    "fusion/mask": _inside(DECODER.rstrip(".")),
}

# Gemma 2's second mask, for the blocks that look through a window
WINDOW = {"fusion/window_mask": _inside(DECODER.rstrip("."))}

DECODER_BLOCK = {
    "decoder/block{:02}/attention_norm": _output(_BLOCK + ".input_layernorm"),
    "decoder/block{:02}/attention/q_proj": _output(
        _BLOCK + ".self_attn.q_proj", heads=True
    ),
    "decoder/block{:02}/attention/k_proj": _output(
        _BLOCK + ".self_attn.k_proj", heads=True
    ),
    "decoder/block{:02}/attention/v_proj": _output(
        _BLOCK + ".self_attn.v_proj", heads=True
    ),
    "decoder/block{:02}/attention/q": _inside(_BLOCK + ".self_attn"),
    "decoder/block{:02}/attention/k": _inside(_BLOCK + ".self_attn"),
    "decoder/block{:02}/attention/scores": _inside(_BLOCK + ".self_attn"),
    "decoder/block{:02}/attention/probs": _inside(_BLOCK + ".self_attn"),
    "decoder/block{:02}/attention/out": _output(_BLOCK + ".self_attn.o_proj"),
    "decoder/block{:02}/mid": _input(_BLOCK + ".post_attention_layernorm"),
    "decoder/block{:02}/mlp_norm": _output(_BLOCK + ".post_attention_layernorm"),
    "decoder/block{:02}/mlp/out": _output(_BLOCK + ".mlp"),
    "decoder/block{:02}/out": _output(_BLOCK),
}

# where Gemma 2 has two norms more, the names of the other two mean other norms
GEMMA_2_BLOCK = {
    "decoder/block{:02}/attention_post_norm": _output(
        _BLOCK + ".post_attention_layernorm"
    ),
    "decoder/block{:02}/mid": _input(_BLOCK + ".pre_feedforward_layernorm"),
    "decoder/block{:02}/mlp_norm": _output(_BLOCK + ".pre_feedforward_layernorm"),
    "decoder/block{:02}/mlp/out": _output(_BLOCK + ".mlp"),
    "decoder/block{:02}/mlp_post_norm": _output(_BLOCK + ".post_feedforward_layernorm"),
    "decoder/block{:02}/out": _output(_BLOCK),
}

DECODER_END = {
    "decoder/out": _output(DECODER + "norm"),
    "logits": _output("lm_head"),
}

# a cap bends what the head says, and has no module of its own: the whole model's output
CAPPED_END = DECODER_END | {"logits": _output("")}


def every_tap(c: PaliGemmaConfig) -> dict[str, Place]:
    """List the taps of a model of these sizes, each with its place, in their order."""
    taps = dict(VISION_START)
    for i in range(c.vision.depth):
        taps |= _numbered(VISION_BLOCK, i)
    taps |= BRIDGE if c.text.window is None else BRIDGE | WINDOW
    for i in range(c.text.depth):
        taps |= _numbered(_decoder_block(post_norms=c.text.post_norms), i)
    return taps | (DECODER_END if c.text.logit_cap is None else CAPPED_END)


def published_module(path: str) -> str:
    """Turn any layout's module path into the published one, as `canonical_name` does."""
    return canonical_name(path + ".").removesuffix(".")


def _decoder_block(*, post_norms: bool) -> dict[str, Place]:
    """List a block's taps in their order, as Gemma or Gemma 2 has them."""
    if not post_norms:
        return DECODER_BLOCK
    attention = {tap: p for tap, p in DECODER_BLOCK.items() if tap not in GEMMA_2_BLOCK}
    return attention | GEMMA_2_BLOCK


def _numbered(taps: dict[str, Place], i: int) -> dict[str, Place]:
    """Fill in the number of a block."""
    return {
        tap.format(i): replace(place, module=place.module.format(i))
        for tap, place in taps.items()
    }
