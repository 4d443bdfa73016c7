"""`config.json`: what published files leave out, both spellings, and refusals."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import write_config

from numpy_paligemma.checkpoints.config import read_config
from numpy_paligemma.model.config import PaliGemmaConfig, TextConfig, VisionConfig


def published(image_size: int) -> dict[str, Any]:
    """Spell out the file of google/paligemma-3b-pt-224 or -448, field by field."""
    tokens = (image_size // 14) ** 2
    vision: dict[str, Any] = {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "model_type": "siglip_vision_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
        "num_image_tokens": tokens,
        "patch_size": 14,
        "projection_dim": 2048,
        "projector_hidden_act": "gelu_fast",
        "vision_use_head": False,
    }
    return {
        "_vocab_size": 257152,
        "architectures": ["PaliGemmaForConditionalGeneration"],
        "bos_token_id": 2,
        "eos_token_id": 1,
        "hidden_size": 2048,
        "ignore_index": -100,
        "image_token_index": 257152,
        "model_type": "paligemma",
        "pad_token_id": 0,
        "projection_dim": 2048,
        "text_config": {
            "hidden_size": 2048,
            "intermediate_size": 16384,
            "model_type": "gemma",
            "num_attention_heads": 8,
            "num_hidden_layers": 18,
            "num_image_tokens": tokens,
            "num_key_value_heads": 1,
            "torch_dtype": "float32",
            "vocab_size": 257216,
        },
        "torch_dtype": "float32",
        "transformers_version": "4.41.0.dev0",
        "vision_config": vision
        | ({} if image_size == 224 else {"image_size": image_size}),
    }


def read(folder: Path, config: object) -> PaliGemmaConfig:
    (folder / "config.json").write_text(json.dumps(config))
    return read_config(folder)


@pytest.mark.parametrize(
    ("image_size", "grid", "patches"),
    [(224, 16, 256), (448, 32, 1024), (896, 64, 4096)],
)
def test_what_published_files_leave_out_is_filled_in(
    tmp_path: Path, image_size: int, grid: int, patches: int
) -> None:
    c = read(tmp_path, published(image_size))
    assert c == PaliGemmaConfig(
        vision=VisionConfig(
            image_size=image_size,
            patch_size=14,
            channels=3,
            width=1152,
            depth=27,
            heads=16,
            mlp_width=4304,
            norm_eps=1e-6,
        ),
        text=TextConfig(
            vocab_size=257216,
            width=2048,
            depth=18,
            heads=8,
            kv_heads=1,
            head_dim=256,
            mlp_width=16384,
            norm_eps=1e-6,
            rope_base=10000.0,
        ),
        image_token_id=257152,
        bos_token_id=2,
        eos_token_ids=(1,),
        pad_token_id=0,
    )
    assert (c.vision.grid, c.vision.patches, c.vision.head_dim) == (grid, patches, 72)


# width, layers, heads, kv heads, head size, MLP width, query_pre_attn_scalar
GEMMA_2 = {
    "3b": (2304, 26, 8, 4, 256, 9216, 256),
    "10b": (3584, 42, 16, 8, 256, 14336, 256),
    "28b": (4608, 46, 32, 16, 128, 36864, 144),
}


def published_2(size: str) -> dict[str, Any]:
    """Spell out what differs in the file of google/paligemma2-3b-pt-224 or a larger."""
    D, L, N, K, H, F, scalar = GEMMA_2[size]
    config = published(224)
    return config | {
        "projection_dim": D,  # and hidden_size 2048, left from PaliGemma 1
        "num_hidden_layers": L,
        "text_config": {
            "attn_logit_softcapping": 50.0,
            "cache_implementation": "hybrid",
            "eos_token_id": [1, 107],
            "final_logit_softcapping": 30.0,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_activation": "gelu_pytorch_tanh",
            "hidden_size": D,
            "intermediate_size": F,
            "model_type": "gemma2",
            "num_attention_heads": N,
            "num_hidden_layers": L,
            "num_image_tokens": 256,
            "num_key_value_heads": K,
            "query_pre_attn_scalar": scalar,
            "sliding_window": 4096,
            "vocab_size": 257216,
        }
        | ({} if H == 256 else {"head_dim": H}),
        "vision_config": config["vision_config"] | {"num_positions": 256},
    }


@pytest.mark.parametrize("size", GEMMA_2)
def test_paligemma_2_is_read_with_all_that_gemma_2_adds(
    tmp_path: Path, size: str
) -> None:
    D, L, N, K, H, F, scalar = GEMMA_2[size]
    c = read(tmp_path, published_2(size))
    assert c.text == TextConfig(
        vocab_size=257216,
        width=D,
        depth=L,
        heads=N,
        kv_heads=K,
        head_dim=H,
        mlp_width=F,
        norm_eps=1e-6,
        rope_base=10000.0,
        post_norms=True,
        query_scale=scalar**-0.5,
        score_cap=50.0,
        logit_cap=30.0,
        window=4096,
        sliding_blocks=frozenset(range(0, L, 2)),
    )
    assert c.eos_token_ids == (1,)


def test_a_gemma_2_section_that_says_little_is_the_2b(tmp_path: Path) -> None:
    config = published_2("3b")
    config["text_config"] = {"model_type": "gemma2", "vocab_size": 257216}
    assert read(tmp_path, config) == read(tmp_path, published_2("3b"))


@pytest.mark.parametrize(
    ("field", "ours"),
    [
        ("attn_logit_softcapping", "score_cap"),
        ("final_logit_softcapping", "logit_cap"),
        ("sliding_window", "window"),
    ],
)
def test_null_switches_a_part_of_gemma_2_off(
    tmp_path: Path, field: str, ours: str
) -> None:
    config = published_2("3b")
    config["text_config"][field] = None
    text = read(tmp_path, config).text
    assert getattr(text, ours) is None
    assert bool(text.sliding_blocks) == (field != "sliding_window")


def test_layer_types_say_which_blocks_slide(tmp_path: Path) -> None:
    config = published_2("3b")
    kinds = ["full_attention"] * 20 + ["sliding_attention"] * 6
    config["text_config"]["layer_types"] = kinds
    assert read(tmp_path, config).text.sliding_blocks == frozenset(range(20, 26))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"layer_types": ["full_attention"]}, r"layer_types: expected 26 of"),
        ({"layer_types": ["chunked"] * 26}, r"layer_types: expected 26 of"),
        ({"layer_types": [["full_attention"]] * 26}, r"layer_types: expected 26 of"),
        ({"layer_types": "sliding_attention"}, r"layer_types: expected 26 of"),
        ({"sliding_window": 0}, r"sliding_window: expected a number above 0"),
        ({"sliding_window": 2.5}, r"sliding_window: expected a whole number"),
        ({"query_pre_attn_scalar": -1}, r"query_pre_attn_scalar: expected a number"),
        (
            {"attn_logit_softcapping": "50"},
            r"attn_logit_softcapping: expected a number",
        ),
        ({"hidden_activation": "silu"}, r"hidden_activation: expected"),
        ({"model_type": "gemma3"}, r'model_type: expected "gemma" or "gemma2"'),
    ],
    ids=str,
)
def test_what_gemma_2_cannot_mean_is_refused(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    config = published_2("3b")
    config["text_config"] |= change
    with pytest.raises(ValueError, match=told):
        read(tmp_path, config)


def test_fields_as_transformers_5_spells_them_mean_the_same(tmp_path: Path) -> None:
    old = read(tmp_path, published(224))
    config = published(224)
    config["image_token_id"] = config.pop("image_token_index")
    config["dtype"] = config.pop("torch_dtype")
    config["text_config"] |= {
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "use_bidirectional_attention": True,
        "hidden_act": "gelu_pytorch_tanh",
        "head_dim": 256,
    }
    assert read(tmp_path, config) == old


@pytest.mark.parametrize(
    "text", [{"rope_theta": 500.0}, {"rope_parameters": {"rope_theta": 500.0}}], ids=str
)
def test_the_rope_base_is_read_from_either_place(
    tmp_path: Path, text: dict[str, Any]
) -> None:
    write_config(tmp_path, text_config=text)
    assert read_config(tmp_path).text.rope_base == 500


def test_a_text_section_that_says_little_is_gemma_7b(tmp_path: Path) -> None:
    config = published(224)
    config["text_config"] = {"model_type": "gemma"}
    config["projection_dim"] = 3072
    text = read(tmp_path, config).text
    assert (text.width, text.depth, text.heads, text.kv_heads) == (3072, 28, 16, 16)


def test_sections_left_out_altogether_are_those_of_paligemma(tmp_path: Path) -> None:
    config = published(224)
    del config["text_config"], config["vision_config"]
    c = read(tmp_path, config)
    assert (c.text.width, c.text.depth, c.text.kv_heads) == (2048, 18, 1)
    assert c.text.vocab_size == 257152
    assert (c.vision.width, c.vision.mlp_width, c.vision.patch_size) == (1152, 4096, 14)


@pytest.mark.parametrize(("ends", "expected"), [(107, (107,)), ([1, 107], (1, 107))])
def test_the_generation_config_says_where_to_stop(
    tmp_path: Path, ends: object, expected: tuple[int, ...]
) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    assert read(tmp_path, published(224)).eos_token_ids == expected


@pytest.mark.parametrize("stops", [None, {}, {"eos_token_id": None}], ids=str)
@pytest.mark.parametrize("end", [None, 5], ids=str)
def test_where_the_generation_config_says_nothing_the_config_does(
    tmp_path: Path, stops: dict[str, Any] | None, end: int | None
) -> None:
    if stops is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(stops))
    ids = {"bos_token_id": None, "eos_token_id": end, "pad_token_id": None}
    c = read(tmp_path, published(224) | ids)
    assert (c.bos_token_id, c.pad_token_id) == (2, 0)
    assert c.eos_token_ids == (1 if end is None else end,)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another model": ({"model_type": "gemma"}, '"paligemma", found "gemma"'),
    "no model type": ({"model_type": None}, 'model_type "paligemma", found null'),
    "gemma 3": (
        {"text_config": {"model_type": "gemma3_text"}},
        'text_config.model_type: expected "gemma" or "gemma2", found "gemma3_text"',
    ),
    "another bend": (
        {"text_config": {"hidden_act": "silu"}},
        'text_config.hidden_act: expected "gelu_pytorch_tanh" or "gelu", found "silu"',
    ),
    "a scaled rope": (
        {"text_config": {"rope_scaling": {"type": "linear", "factor": 2}}},
        "text_config.rope_scaling: expected null",
    ),
    "another rope": (
        {"text_config": {"rope_parameters": {"rope_type": "yarn"}}},
        'rope_parameters.rope_type: expected "default", found "yarn"',
    ),
    "biases": (
        {"text_config": {"attention_bias": True}},
        "text_config.attention_bias: expected false, found true",
    ),
    "exact gelu in the eye": (
        {"vision_config": {"hidden_act": "gelu"}},
        'vision_config.hidden_act: expected "gelu_pytorch_tanh", found "gelu"',
    ),
    "a projector that does not fit": (
        {"projection_dim": 11},
        "projection_dim: expected 10, found 11",
    ),
    "a word for a number": (
        {"text_config": {"num_hidden_layers": "three"}},
        'num_hidden_layers: expected a whole number above 0, found "three"',
    ),
    "no layers": (
        {"text_config": {"num_hidden_layers": 0}},
        "text_config.num_hidden_layers: expected a whole number above 0, found 0",
    ),
    "true for a number": (
        {"vision_config": {"patch_size": True}},
        "vision_config.patch_size: expected a whole number above 0, found true",
    ),
    "a negative eps": (
        {"vision_config": {"layer_norm_eps": -1e-6}},
        "vision_config.layer_norm_eps: expected a number above 0 and below 0.01, found -1e-06",
    ),
    "a list for a section": (
        {"text_config": []},
        "text_config: expected an object, found []",
    ),
    "kv heads that do not divide": (
        {"text_config": {"num_key_value_heads": 3}},
        "text_config.num_key_value_heads: 3 does not divide 4",
    ),
    "heads that do not divide": (
        {"vision_config": {"num_attention_heads": 4}},
        "vision_config.num_attention_heads: 4 does not divide 15",
    ),
    "no image token": (
        {"image_token_index": None},
        "image_token_index: expected a whole number above 0, found nothing",
    ),
    "an odd end": ({"eos_token_id": "</s>"}, "eos_token_id: expected a token id"),
    "a negative pad": ({"pad_token_id": -1}, "pad_token_id: expected a token id"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_computed_wrongly_is_refused_by_name(
    tmp_path: Path, case: str
) -> None:
    changes, told = REFUSED[case]
    write_config(tmp_path, **changes)
    with pytest.raises(ValueError, match="config") as caught:
        read_config(tmp_path)
    assert told in str(caught.value)
    assert str(tmp_path / "config.json") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "no such file"),
        ("", "expected JSON, but"),
        ("{'model_type': 'paligemma'}", "expected JSON, but"),
        ("[1, 2]", "expected a JSON object, found list"),
        ("\x00\x01\xff", "expected JSON, but"),
        ("[" * 100_000, "expected JSON, but"),
    ],
    ids=["missing", "empty", "python", "a list", "bytes", "very deep"],
)
def test_a_file_that_is_no_json_object_is_told(
    tmp_path: Path, text: str | None, told: str
) -> None:
    if text is not None:
        (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=told):
        read_config(tmp_path)
