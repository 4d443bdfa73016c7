"""The field's classic errors, each written down as a wrong twin of one of our functions.

Tests need tests: tests/test_mistakes.py puts each twin in the place of the right
function and demands that the golden comparison fails, by a wide margin, and first at
the tap that is named here. In the order of the line, from picture to token; a twin
takes the arguments of the function it replaces, and its name says what is wrong.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from numpy_paligemma.arrays.formats import round_to_bfloat16, widen_bfloat16
from numpy_paligemma.inputs.image import pixel_values
from numpy_paligemma.model.attention import grouped_query_attention
from numpy_paligemma.model.fusion import (
    embed_text,
    fuse,
    positions_of,
    prefix_lm_mask,
)
from numpy_paligemma.model.gemma import (
    gemma_attention,
    gemma_block,
    gemma_decoder,
    gemma_mlp,
    next_token_logits,
)
from numpy_paligemma.model.layers import (
    layer_norm,
    linear,
    rms_norm,
    soft_cap,
    softmax,
)
from numpy_paligemma.model.pipeline import key_mask
from numpy_paligemma.model.rope import RopeTable, apply_rope, rope_table
from numpy_paligemma.model.siglip import cut_patches, siglip_attention, siglip_encoder

Twin = Callable[..., Any]


@dataclass(frozen=True)
class Mistake:
    """A wrong twin, whom it replaces, and where the line must first show it."""

    twin: Twin
    replaces: str  # a name in numpy_paligemma, as looked up by the one who calls it
    first: str  # the tap
    origin: str  # where people made it, or the habit it comes from
    faint: bool  # lost in the rounding of float32
    model: str  # the golden model that shows it


MISTAKES: list[Mistake] = []


def mistake(
    replaces: str,
    first: str,
    origin: str,
    *,
    faint: bool = False,
    model: str = "two_kv_heads",
) -> Callable[[Twin], Twin]:
    """Enter a wrong twin into the list."""

    def enter(twin: Twin) -> Twin:
        MISTAKES.append(Mistake(twin, replaces, first, origin, faint, model))
        return twin

    return enter


# --- the picture ----------------------------------------------------------------------


@mistake("inputs.image.pixel_values", "pixels", "ports of CLIP code")
def pixels_from_nought_to_one(images, settings):
    return pixel_values(images, replace(settings, mean=(0, 0, 0), std=(1, 1, 1)))


@mistake("inputs.image.pixel_values", "pixels", "OpenCV users")
def blue_green_red(images, settings):
    return pixel_values(images, settings)[:, ::-1]


@mistake("inputs.image.pixel_values", "pixels", "ports of CLIP code")
def mean_and_std_of_imagenet(images, settings):
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return pixel_values(images, replace(settings, mean=mean, std=std))


@mistake("inputs.image.pixel_values", "pixels", "llama.cpp#24629, nano-paligemma2")
def bilinear_for_bicubic(images, settings):
    return pixel_values(images, replace(settings, resample=2))


@mistake("inputs.image.pixel_values", "pixels", "OpenCV and TensorFlow users")
def no_antialias(images, settings):
    size = (settings.size, settings.size)
    whole = [(0, 0, x.width, x.height) for x in images]
    pairs = zip(images, whole, strict=True)
    thinned = [x.transform(size, EXTENT, box, BICUBIC) for x, box in pairs]
    return pixel_values(thinned, settings)


@mistake("inputs.image.pixel_values", "pixels", "habits of detectors")
def letterboxed(images, settings):
    squares = [ImageOps.pad(x, (max(x.size), max(x.size))) for x in images]
    return pixel_values(squares, settings)


@mistake("inputs.image.pixel_values", "pixels", "transformers#37112: EXIF, or not")
def turned_as_exif_says(images, settings):
    return pixel_values([x.transpose(ROTATE_90) for x in images], settings)


@mistake("inputs.image.pixel_values", "pixels", "ports of CLIP code")
def centre_cropped(images, settings):
    squares = [ImageOps.fit(x, (min(x.size), min(x.size))) for x in images]
    return pixel_values(squares, settings)


@mistake("inputs.image.pixel_values", "pixels", "ToTensor before the processor")
def rescaled_twice(images, settings):
    return pixel_values(images, replace(settings, rescale=255**-2))


# --- the eye --------------------------------------------------------------------------


@mistake("model.siglip.cut_patches", "vision/embed", "channels-last ports")
def patch_flattened_row_column_channel(pixels, patch):
    patches = cut_patches(pixels, patch)  # (B, P, 3·patch·patch)
    tiles = patches.reshape(*patches.shape[:2], -1, patch * patch)
    return tiles.swapaxes(2, 3).reshape(patches.shape)


@mistake("model.siglip.cut_patches", "vision/embed", "x and y exchanged")
def patches_read_column_by_column(pixels, patch):
    patches = cut_patches(pixels, patch)
    B, P, size = patches.shape
    grid = patches.reshape(B, math.isqrt(P), math.isqrt(P), size)
    return grid.swapaxes(1, 2).reshape(B, P, size)


@mistake("model.pipeline.siglip_encoder", "vision/embed", "CLIP habits")
def position_table_left_out(pixels, w, c, *, tap):
    without = replace(w, position_embed=0 * w.position_embed)
    return siglip_encoder(pixels, without, c, tap=tap)


@mistake("model.pipeline.siglip_encoder", "vision/embed", "CLIP, with its class token")
def position_table_shifted_by_one(pixels, w, c, *, tap):
    shifted = replace(w, position_embed=np.roll(w.position_embed, -1, axis=0))
    return siglip_encoder(pixels, shifted, c, tap=tap)


@mistake(
    "model.siglip.layer_norm", "vision/block00/attention_norm", "mlx-vlm", faint=True
)
def layer_norm_with_pytorch_s_default_eps(x, weight, bias, _):
    return layer_norm(x, weight, bias, 1e-5)


@mistake(
    "model.siglip.layer_norm", "vision/block00/attention_norm", "Annotated Transformer"
)
def layer_norm_divided_by_n_minus_one(x, weight, bias, eps):
    centred = x - np.mean(x, axis=-1, keepdims=True)
    variance = np.var(x, axis=-1, keepdims=True, ddof=1)
    return centred / np.sqrt(variance + eps) * weight + bias


@mistake(
    "model.siglip.layer_norm",
    "vision/block00/attention_norm",
    "Annotated Transformer",
    faint=True,
)
def layer_norm_with_eps_outside_the_root(x, weight, bias, eps):
    centred = x - np.mean(x, axis=-1, keepdims=True)
    return centred / (np.std(x, axis=-1, keepdims=True) + eps) * weight + bias


@mistake(
    "model.siglip.siglip_attention",
    "vision/block00/attention/q",
    "loaders written for Gemma",
)
def vision_biases_dropped(x, w, c, *, tap):
    q, k, v = (p._replace(bias=None) for p in (w.q_proj, w.k_proj, w.v_proj))
    return siglip_attention(x, replace(w, q_proj=q, k_proj=k, v_proj=v), c, tap=tap)


@mistake(
    "model.siglip.grouped_query_attention",
    "vision/block00/attention/scores",
    "loaders written for Gemma",
)
def vision_scores_scaled_by_the_width(q, k, v, *, tap):
    heads = q.shape[1]  # 1/√(N·H) where 1/√H is meant
    return grouped_query_attention(q * heads**-0.5, k, v, tap=tap)


@mistake("model.siglip.gelu", "vision/block00/mlp/out", "keras-hub#1494")
def vision_gelu_with_erf(x):
    return x * (1 + erf(x / math.sqrt(2))) / 2


@mistake("model.siglip.gelu", "vision/block00/mlp/out", "CLIP habits")
def quick_gelu(x):
    return x / (1 + np.exp(-1.702 * x))


@mistake("model.pipeline.siglip_encoder", "projector/out", "LLaVA's feature layer -2")
def features_of_the_last_layer_but_one(pixels, w, c, *, tap):
    siglip_encoder(pixels, w, c, tap=tap)
    return siglip_encoder(pixels, replace(w, blocks=w.blocks[:-1]), c)


@mistake("model.pipeline.siglip_encoder", "projector/out", "strict=False loaders")
def vision_s_last_norm_left_out(pixels, w, c, *, tap):
    tap, streams = remembering(tap)
    siglip_encoder(pixels, w, c, tap=tap)
    return streams[-2]  # the last block's, before the norm


@mistake("model.pipeline.project", "projector/out", "strict=False loaders")
def projector_bias_dropped(features, w):
    return linear(features, w.weight)


# --- one sequence of picture and prompt -----------------------------------------------


@mistake("model.pipeline.embed_text", "decoder/embed", "lerobot#3603, openpi#769")
def text_not_scaled(ids, w):
    return embed_text(ids, w) * w.shape[1] ** -0.5


@mistake("model.pipeline.embed_text", "decoder/embed", "openpi#769, lerobot#3603")
def text_scaled_twice(ids, w):
    return embed_text(ids, w) * w.shape[1] ** 0.5


@mistake("model.pipeline.embed_text", "decoder/embed", "transformers#29402")
def text_scale_rounded_to_bfloat16(ids, w):
    rounded = float(in_bfloat16(w.shape[1] ** 0.5))
    return embed_text(ids, w) * w.shape[1] ** -0.5 * rounded


@mistake("model.pipeline.fuse", "fusion/out", "vLLM#52667, a fork of llama.cpp")
def picture_divided_by_the_scale(soft, text, is_image):
    return fuse(soft * soft.shape[-1] ** -0.5, text, is_image)


@mistake("model.pipeline.fuse", "fusion/out", "transformers#37117")
def picture_scaled_like_text(soft, text, is_image):
    return fuse(soft * soft.shape[-1] ** 0.5, text, is_image)


@mistake("model.pipeline.fuse", "fusion/out", "transformers#37117")
def whole_sequence_scaled_once_more(soft, text, is_image):
    return fuse(soft, text, is_image) * soft.shape[-1] ** 0.5


@mistake("model.pipeline.fuse", "fusion/out", "mlx-vlm")
def first_picture_for_every_prompt(soft, text, is_image):
    return fuse(np.broadcast_to(soft[:1], soft.shape), text, is_image)


@mistake("model.pipeline.prefix_lm_mask", "fusion/mask", "vLLM#27938, #31725")
def prefix_causal(attention_mask, token_type_ids, window=None):
    return prefix_lm_mask(attention_mask, np.ones_like(token_type_ids), window)


@mistake("model.pipeline.prefix_lm_mask", "fusion/mask", "Gemma 3 habits")
def picture_sees_all_and_prompt_is_causal(attention_mask, _):
    counted = np.cumsum(attention_mask, axis=1)
    return prefix_lm_mask(attention_mask, counted > SOFT_TOKENS)


@mistake("model.pipeline.prefix_lm_mask", "fusion/mask", "unsloth-zoo#963")
def answer_sees_what_follows(attention_mask, _):
    return prefix_lm_mask(attention_mask)


@mistake("model.pipeline.prefix_lm_mask", "fusion/mask", "transformers#35855")
def padding_visible(attention_mask, token_type_ids):
    return prefix_lm_mask(np.ones_like(attention_mask), token_type_ids)


WINDOW = "fusion/window_mask"

# --- the decoder's block --------------------------------------------------------------

NORM = "decoder/block00/attention_norm"


@mistake("model.gemma.rms_norm", NORM, "OpenArch#19, Llama habits")
def gain_is_w_and_not_one_plus_w(x, weight, eps):
    return rms_norm(x, weight - 1, eps)


@mistake("model.gemma.rms_norm", NORM, "LayerNorm habits")
def rms_norm_takes_the_mean_off(x, weight, eps):
    return rms_norm(x - np.mean(x, axis=-1, keepdims=True), weight, eps)


@mistake("model.gemma.rms_norm", NORM, "Llama's default", faint=True)
def rms_norm_with_a_larger_eps(x, weight, _):
    return rms_norm(x, weight, 1e-5)


@mistake("model.gemma.rms_norm", NORM, "norms written by hand", faint=True)
def rms_norm_with_eps_outside_the_root(x, weight, eps):
    root = np.sqrt(np.mean(np.square(x), axis=-1, keepdims=True))
    return x / (root + eps) * (1 + weight)


@mistake("model.gemma.split_heads", "decoder/block00/attention/q_proj", "reshapes")
def heads_cut_without_a_transpose(x, head_dim):
    B, T, _ = x.shape
    return x.reshape(B, -1, T, head_dim)


ROTATED = "decoder/block00/attention/q"


@mistake("model.gemma.apply_rope", ROTATED, "transformers#25199, asked most of all")
def rope_turns_neighbours_and_not_halves(x, rope):
    turned = np.empty_like(x)
    a, b = x[..., ::2], x[..., 1::2]
    turned[..., ::2] = a * rope.cos - b * rope.sin
    turned[..., 1::2] = b * rope.cos + a * rope.sin
    return turned


@mistake("model.gemma.apply_rope", ROTATED, "rotations written by hand")
def rope_turns_backwards(x, rope):
    return apply_rope(x, RopeTable(rope.cos, -rope.sin))


@mistake("model.gemma.apply_rope", ROTATED, "CLIP and GPT-2 habits")
def rope_left_out(x, _):
    return x


@mistake("model.gemma.rope_table", ROTATED, "Gemma 3 habits")
def rope_with_base_of_a_million(positions, head_dim, _, like):
    return rope_table(positions, head_dim, 1e6, like)


@mistake("model.gemma.rope_table", ROTATED, "configs without head_dim")
def rope_frequencies_over_the_width(positions, head_dim, base, like):
    width = like.shape[-1]  # base^(-2j/D) where base^(-2j/H) is meant
    return rope_table(positions, head_dim, base ** (head_dim / width), like)


@mistake("model.gemma.rope_table", ROTATED, "transformers, after model.to(bfloat16)")
def rope_frequencies_rounded_to_bfloat16(positions, head_dim, base, like):
    frequencies = in_bfloat16(base ** (-np.arange(0, head_dim, 2) / head_dim))
    angles = positions[:, None, :, None] * frequencies
    return RopeTable(*(f(angles).astype(like.dtype) for f in (np.cos, np.sin)))


@mistake("model.gemma.rope_table", ROTATED, "tables kept in the model's dtype")
def rope_table_rounded_to_bfloat16(positions, head_dim, base, like):
    table = rope_table(positions, head_dim, base, like)
    return RopeTable(*(in_bfloat16(t).astype(like.dtype) for t in table))


@mistake(
    "model.gemma.gemma_attention",
    "decoder/block00/attention/out",
    "one loop for q, k, v",
)
def rope_turns_values_too(x, w, rope, mask, cache, c, *, tap):
    def turning(name, y):
        y = tap(name, y)
        return apply_rope(y, rope) if name == "v_proj" else y

    return gemma_attention(x, w, rope, mask, cache, c, tap=turning)


@mistake("model.pipeline.positions_of", ROTATED, "one position table a modality")
def text_counts_from_one_again(attention_mask):
    counted = positions_of(attention_mask)
    return np.where(counted > SOFT_TOKENS, counted - SOFT_TOKENS, counted)


SCORES = "decoder/block00/attention/scores"


@mistake("model.gemma.grouped_query_attention", SCORES, "papers with one head")
def scores_scaled_by_the_width(q, k, v, mask, **options):
    heads = q.shape[1]  # 1/√(N·H) where 1/√H is meant
    return grouped_query_attention(q * heads**-0.5, k, v, mask, **options)


@mistake("model.gemma.grouped_query_attention", SCORES, "ports tested with one kv head")
def kv_heads_tiled_and_not_repeated(q, k, v, mask, **options):
    times = (1, q.shape[1] // k.shape[1], 1, 1)  # 0 1 0 1 where 0 0 1 1 is meant
    return grouped_query_attention(
        q, np.tile(k, times), np.tile(v, times), mask, **options
    )


@mistake("model.gemma.merge_heads", "decoder/block00/attention/out", "reshapes")
def heads_joined_without_a_transpose(x):
    B, N, T, H = x.shape
    return x.reshape(B, T, N * H)


FED = "decoder/block00/mlp/out"


@mistake("model.gemma.gemma_mlp", FED, "conversions of the .npz")
def gate_and_up_swapped(x, w, *, tap):
    swapped = replace(w, gate_proj=w.up_proj, up_proj=w.gate_proj)
    return gemma_mlp(x, swapped, tap=tap)


@mistake("model.gemma.gelu", FED, "transformers#29402, keras-hub#1494")
def gelu_with_erf(x):
    return x * (1 + erf(x / math.sqrt(2))) / 2


@mistake("model.gemma.gelu", FED, "Llama habits")
def silu_for_gelu(x):
    return x / (1 + np.exp(-x))


# --- the end, and the words one by one ------------------------------------------------


@mistake("model.pipeline.gemma_decoder", "logits", "strict=False loaders")
def last_norm_left_out(*arguments, tap, **options):
    tap, streams = remembering(tap)
    gemma_decoder(*arguments, tap=tap, **options)
    return streams[-2]  # the last block's, before the norm


@mistake("model.pipeline.next_token_logits", "logits", "a scaled table for both ends")
def head_scaled_like_the_embedding(x, w, cap):
    return next_token_logits(x, w, cap) * x.shape[-1] ** 0.5


@mistake(
    "model.pipeline.key_mask",
    "prefill/decoder/block00/attention/probs",
    "transformers#35855",
)
def padding_visible_when_generating(attention_mask, like, window=None):
    return key_mask(np.ones_like(attention_mask), like, window)


@mistake("model.gemma.rope_table", "step1/" + ROTATED, "llama3.np")
def decoding_one_position_late(positions, head_dim, base, like):
    late = positions + (positions.shape[1] == 1)  # all of them late would be harmless
    return rope_table(late, head_dim, base, like)


@mistake("model.sampling.nucleus", "sampling/nucleus", "OpenAI's GPT-2")
def nucleus_drops_the_token_that_crosses(probs, top_p):
    order = np.argsort(-probs, kind="stable")
    stays = order[np.cumsum(probs[order]) <= top_p]
    kept = np.zeros_like(probs)
    kept[stays] = probs[stays]
    return kept / kept.sum()


# --- PaliGemma 2 ----------------------------------------------------------------------


@mistake(
    "model.gemma.grouped_query_attention",
    SCORES,
    "nano-paligemma2 on 28B",
    model="gemma_2",
)
def queries_scaled_by_their_size(q, k, v, mask, *, scale, **options):  # noqa: ARG001
    return grouped_query_attention(q, k, v, mask, **options)


@mistake(
    "model.gemma.grouped_query_attention",
    SCORES,
    "PaddleFormers#4770, vLLM#52173",
    model="gemma_2",
)
def score_cap_left_out(q, k, v, mask, *, cap, **options):  # noqa: ARG001
    return grouped_query_attention(q, k, v, mask, **options)


@mistake(
    "model.gemma.grouped_query_attention",
    "decoder/block00/attention/probs",
    "fused kernels",
    model="gemma_2",
)
def score_cap_behind_the_mask(q, k, v, mask, *, cap, **options):
    hidden = np.where(mask, 0.0, -2 * cap)  # what the mask's lowest number is bent to
    scores = q @ np.swapaxes(np.repeat(k, q.shape[1] // k.shape[1], 1), -1, -2)
    scores = options["tap"]("scores", soft_cap(scores * options["scale"], cap))
    probs = options["tap"]("probs", softmax(np.maximum(scores + hidden, -cap)))
    return probs @ np.repeat(v, q.shape[1] // v.shape[1], 1)


@mistake(
    "model.pipeline.next_token_logits", "logits", "PaddleFormers#4770", model="gemma_2"
)
def logit_cap_left_out(x, w, cap):  # noqa: ARG001
    return next_token_logits(x, w)


@mistake(
    "model.gemma.gemma_block",
    "decoder/block00/mid",
    "hkproj#6, #9: PaliGemma 2 in the code of PaliGemma 1",
    model="gemma_2",
)
def norms_behind_the_branches_left_out(x, w, *arguments, tap):
    return gemma_block(x, replace(w, post_norms=None), *arguments, tap=tap)


@mistake(
    "model.gemma.gemma_block",
    "decoder/block00/mlp_norm",
    "one name, two meanings",
    model="gemma_2",
)
def norm_before_the_mlp_taken_for_the_one_behind_attention(x, w, *arguments, tap):
    swapped = replace(w, mlp_norm=w.post_norms.attention)
    return gemma_block(x, swapped, *arguments, tap=tap)


@mistake("model.pipeline.prefix_lm_mask", WINDOW, "896 pixels alone", model="gemma_2")
def window_ignored(attention_mask, token_type_ids, window=None):  # noqa: ARG001
    return prefix_lm_mask(attention_mask, token_type_ids)


@mistake("model.pipeline.prefix_lm_mask", WINDOW, "fence posts", model="gemma_2")
def window_one_too_long(attention_mask, token_type_ids, window=None):
    longer = None if window is None else window + 1
    return prefix_lm_mask(attention_mask, token_type_ids, longer)


@mistake("model.pipeline.prefix_lm_mask", WINDOW, "Gemma 2 as text", model="gemma_2")
def window_cuts_the_prefix(attention_mask, token_type_ids, window=None):
    mask = prefix_lm_mask(attention_mask, token_type_ids, window)
    if window is None:
        return mask
    T = mask.shape[-1]
    return mask & ~np.tri(T, k=-window, dtype=bool)


@mistake(
    "model.pipeline.gemma_decoder",
    "decoder/block00/attention/probs",
    "counting from one",
    model="gemma_2",
)
def the_other_blocks_look_through_windows(x, positions, mask, w, c, *more, **options):
    every = frozenset(range(len(w.blocks)))
    swapped = replace(c, sliding_blocks=every - c.sliding_blocks)
    return gemma_decoder(x, positions, mask, w, swapped, *more, **options)


@mistake(
    "model.pipeline.key_mask",
    "step1/decoder/block00/attention/probs",
    "a window in the prefill alone",
    model="gemma_2",
)
def window_ignored_when_generating(attention_mask, like, window=None):  # noqa: ARG001
    return key_mask(attention_mask, like)


# --- what several of them need --------------------------------------------------------

EXTENT, ROTATE_90 = Image.Transform.EXTENT, Image.Transpose.ROTATE_90
BICUBIC = Image.Resampling.BICUBIC
SOFT_TOKENS = 4  # of the golden model that they are shown on
erf = np.vectorize(math.erf)


def in_bfloat16(x: np.ndarray | float) -> np.ndarray:
    """Round to bfloat16 and come back."""
    return widen_bfloat16(round_to_bfloat16(x)).reshape(np.shape(x))


def remembering(tap: Twin) -> tuple[Twin, list[np.ndarray]]:
    """Make a tap that also keeps what passes, and the list it fills."""
    kept: list[np.ndarray] = []

    def keep(name: str, x: np.ndarray) -> np.ndarray:
        kept.append(x)
        return tap(name, x)

    return keep, kept
