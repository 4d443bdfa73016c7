"""`config.json` into sizes, with what published files leave out filled in.

The defaults are those that transformers puts in (models/paligemma, models/gemma,
models/gemma2 and models/siglip, configuration_*.py): whoever wrote the file relied on
them. What would change the arithmetic and is not written here as NumPy is refused by
name. Whether a checkpoint is a PaliGemma 1 or 2 is said by `text_config.model_type`,
"gemma" or "gemma2", and by nothing else.
"""

from os.path import lexists
from pathlib import Path
from typing import Any

from numpy_paligemma.checkpoints.fields import TOO_LARGE, Section, read_json, shorten
from numpy_paligemma.model.config import PaliGemmaConfig, TextConfig, VisionConfig

LARGE_EPS = 0.01  # published ones are 1e-6; from here on it bends the numbers
MANY = 10_000  # blocks; a file that asks for more has a slip in it
GEMMA_2 = "gemma2"
TANH_GELU = "gelu_pytorch_tanh"

# a section that is there, but leaves fields out
TEXT_DEFAULTS = {
    "vocab_size": 256000,
    "hidden_size": 3072,
    "intermediate_size": 24576,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 256,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
}
GEMMA_2_DEFAULTS = TEXT_DEFAULTS | {
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "query_pre_attn_scalar": 256,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
    "sliding_window": 4096,
}
# here null is a setting, "off", and not the same as leaving the field out
MAY_BE_OFF = {"attn_logit_softcapping", "final_logit_softcapping", "sliding_window"}
SLIDING, FULL = "sliding_attention", "full_attention"
VISION_DEFAULTS = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 16,
    "layer_norm_eps": 1e-6,
}
# a section that is not there at all: PaliGemma's own
WHOLE_TEXT = {
    "vocab_size": 257152,
    "hidden_size": 2048,
    "intermediate_size": 16384,
    "num_hidden_layers": 18,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
}
WHOLE_VISION = {
    "hidden_size": 1152,
    "intermediate_size": 4096,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "patch_size": 14,
}


def read_config(folder: Path) -> PaliGemmaConfig:
    """Read a checkpoint's `config.json` and, where there is one, `generation_config.json`.

    Returns
    -------
    PaliGemmaConfig

    Raises
    ------
    ValueError
        If a file is missing or broken, the model is of another type, or a field asks
        for arithmetic that this is not.
    """
    path = folder / "config.json"
    top = Section(f"{path}: ", read_json(path))
    if top.values.get("model_type") != "paligemma":
        found = shorten(top.values.get("model_type"))
        msg = f'{path}: expected model_type "paligemma", found {found}'
        raise ValueError(msg)
    text = top.section("text_config", TEXT_DEFAULTS, WHOLE_TEXT)
    if text.values.get("model_type") == GEMMA_2:
        text = top.section("text_config", GEMMA_2_DEFAULTS, {}, may_be_off=MAY_BE_OFF)
    vision = top.section("vision_config", VISION_DEFAULTS, WHOLE_VISION)
    _refuse_other_arithmetic(top, text, vision)

    stops = folder / "generation_config.json"
    ends = Section(f"{stops}: ", read_json(stops) if lexists(stops) else {})
    if ends.values.get("eos_token_id") is None:
        ends = top
    return PaliGemmaConfig(
        vision=_vision_config(vision),
        text=_text_config(text, tied=_is_tied(top, text)),
        image_token_id=_image_token_id(top),
        bos_token_id=top.token_id("bos_token_id", 2),
        eos_token_ids=_eos_token_ids(ends),
        pad_token_id=top.token_id("pad_token_id", 0),
    )


def _refuse_other_arithmetic(top: Section, text: Section, vision: Section) -> None:
    """Refuse what would load and then be computed wrongly."""
    text.expect("model_type", "gemma", GEMMA_2)
    is_gemma_2 = text.values.get("model_type") == GEMMA_2
    # each family reads one of the two spellings and ignores the other; Gemma 1's files
    # say "gelu" and mean tanh, in Gemma 2's it would be the exact one
    if is_gemma_2:
        text.expect("hidden_activation", TANH_GELU)
    else:
        text.expect("hidden_act", TANH_GELU, "gelu")
    text.expect("attention_bias", False)
    text.expect("rope_scaling", None)
    rope = text.section("rope_parameters", {}, {})
    rope.expect("rope_type", "default")
    rope.expect("type", "default")  # its older spelling
    top.expect("quantization_config", None)
    vision.expect("model_type", "siglip_vision_model")
    vision.expect("hidden_act", TANH_GELU)
    top.expect("projection_dim", text.count("hidden_size"))
    vision.divides("num_attention_heads", "hidden_size")
    text.divides("num_key_value_heads", "num_attention_heads")


def _is_tied(top: Section, text: Section) -> bool:
    """Read whether the head is the embedding; either section may say that it is not."""
    said = [s.values.get("tie_word_embeddings") for s in (top, text)]
    top.expect("tie_word_embeddings", True, False)
    text.expect("tie_word_embeddings", True, False)
    return False not in said


def _image_token_id(top: Section) -> int:
    """Read the id of `<image>`, under its older or its newer name."""
    name = "image_token_id" if "image_token_id" in top.values else "image_token_index"
    found = top.count(name)
    top.expect("image_token_index", found)
    return found


def _gemma_2_fields(text: Section, depth: int) -> dict[str, Any]:
    """Read what Gemma 2 adds."""
    window = text.number_or_off("sliding_window")
    alternating = [FULL if i % 2 else SLIDING for i in range(min(depth, MANY))]
    name = "layer_types"
    kinds = text.values.get(name, alternating)
    known = isinstance(kinds, list) and all(kind in (SLIDING, FULL) for kind in kinds)
    if not known or len(kinds) != depth:
        raise text.refusal(name, f'{depth} of "{SLIDING}" or "{FULL}"', kinds)
    return {
        "post_norms": True,
        "query_scale": text.number("query_pre_attn_scalar") ** -0.5,
        "score_cap": text.number_or_off("attn_logit_softcapping"),
        "logit_cap": text.number_or_off("final_logit_softcapping"),
        "window": None if window is None else text.count("sliding_window"),
        "sliding_blocks": frozenset(
            i for i, kind in enumerate(kinds) if kind == SLIDING and window is not None
        ),
    }


def _text_config(text: Section, *, tied: bool) -> TextConfig:
    # files before transformers 5 hold rope_theta, later ones rope_parameters
    rope = text.section(
        "rope_parameters", {"rope_theta": text.number("rope_theta", above=1)}, {}
    )
    depth = text.count("num_hidden_layers")
    is_gemma_2 = text.values.get("model_type") == GEMMA_2
    return TextConfig(
        vocab_size=text.count("vocab_size"),
        width=text.count("hidden_size"),
        depth=depth,
        heads=text.count("num_attention_heads"),
        kv_heads=text.count("num_key_value_heads"),
        head_dim=text.count("head_dim"),
        mlp_width=text.count("intermediate_size"),
        norm_eps=text.number("rms_norm_eps", below=LARGE_EPS),
        rope_base=rope.number("rope_theta", above=1),
        tied=tied,
        **(_gemma_2_fields(text, depth) if is_gemma_2 else {}),
    )


def _vision_config(vision: Section) -> VisionConfig:
    return VisionConfig(
        image_size=vision.count("image_size"),
        patch_size=vision.count("patch_size"),
        channels=vision.count("num_channels"),
        width=vision.count("hidden_size"),
        depth=vision.count("num_hidden_layers"),
        heads=vision.count("num_attention_heads"),
        mlp_width=vision.count("intermediate_size"),
        norm_eps=vision.number("layer_norm_eps", below=LARGE_EPS),
    )


def _eos_token_ids(ends: Section) -> tuple[int, ...]:
    """Read where to stop: one id or a list of them."""
    value = ends.values.get("eos_token_id")
    ids = value if isinstance(value, list) else [1 if value is None else value]
    if not ids or any(type(i) is not int or not 0 <= i < TOO_LARGE for i in ids):
        msg = f"{ends.where}eos_token_id: expected a token id, found {value!r}"
        raise ValueError(msg)
    return tuple(ids)
