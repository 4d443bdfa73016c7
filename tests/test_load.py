"""Weights from a folder: any layout, any dtype, and all that is wrong in one line."""

import dataclasses
import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_names import EYE, LAYOUTS
from tiny import (
    VOCABULARY,
    Tensors,
    random_tensors,
    stored,
    write_checkpoint,
    write_config,
    write_safetensors,
    write_shards,
)

from numpy_paligemma import load_hf_model
from numpy_paligemma.arrays.formats import round_to_bfloat16, widen_bfloat16
from numpy_paligemma.arrays.matrix import HeldMatrix
from numpy_paligemma.checkpoints.config import read_config
from numpy_paligemma.checkpoints.load import load_weights
from numpy_paligemma.model.pipeline import PaliGemmaWeights

EMBEDDING = "language_model.model.embed_tokens.weight"
HEAD = "lm_head.weight"
Q = "language_model.model.layers.1.self_attn.q_proj.weight"
GAIN = "language_model.model.norm.weight"


def load(folder: Path, dtype: str = "float32") -> PaliGemmaWeights:
    return load_weights(folder, read_config(folder), dtype)


def test_one_family_s_config_on_the_other_s_tensors_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    write_config(folder, text_config={"model_type": "gemma2"})
    with pytest.raises(ValueError, match="of a PaliGemma 2, the tensors are of a Pali"):
        load(folder)
    tensors = random_tensors()
    extra = GAIN.replace("norm.weight", "layers.0.pre_feedforward_layernorm.weight")
    write_checkpoint(folder, tensors | {extra: tensors[GAIN]})
    with pytest.raises(ValueError, match="of a PaliGemma 1, the tensors are of a Pali"):
        load(folder)


def leaves(node: Any, at: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Walk a tree of weights, widening what is held in 16 bits."""
    if node is None:  # what only Gemma 2 has
        return
    if isinstance(node, HeldMatrix):
        yield at, node[np.arange(node.shape[0])]
    elif isinstance(node, np.ndarray):
        yield at, node
    elif dataclasses.is_dataclass(node):
        for field in dataclasses.fields(node):
            yield from leaves(getattr(node, field.name), f"{at}.{field.name}")
    else:
        for i, part in enumerate(node):
            yield from leaves(part, f"{at}.{i}")


def assert_same(found: PaliGemmaWeights, expected: PaliGemmaWeights) -> None:
    there = dict(leaves(expected))
    for name, array in leaves(found):
        np.testing.assert_array_equal(array, there.pop(name), err_msg=name)
    assert not there


def test_every_tensor_becomes_the_weight_that_it_is(tiny_folder: Path) -> None:
    """Spelt out for one block of each tower, as a porter would read it."""
    t, w = random_tensors(), load(tiny_folder)
    eye, reader = w.vision.blocks[1], w.decoder.blocks[2]
    at = f"{EYE}encoder.layers.1."
    kernel = t[f"{EYE}embeddings.patch_embedding.weight"].reshape(15, 48)
    text = "language_model.model.layers.2."
    pairs = {
        "patch": (w.vision.patch_embed.weight, kernel),
        "position": (
            w.vision.position_embed,
            t[f"{EYE}embeddings.position_embedding.weight"],
        ),
        "vision norm": (w.vision.final_norm.weight, t[f"{EYE}post_layernorm.weight"]),
        "norm1": (eye.attention_norm.bias, t[at + "layer_norm1.bias"]),
        "norm2": (eye.mlp_norm.weight, t[at + "layer_norm2.weight"]),
        "q": (eye.q_proj.weight, t[at + "self_attn.q_proj.weight"]),
        "k": (eye.k_proj.bias, t[at + "self_attn.k_proj.bias"]),
        "v": (eye.v_proj.weight, t[at + "self_attn.v_proj.weight"]),
        "out": (eye.out_proj.weight, t[at + "self_attn.out_proj.weight"]),
        "fc1": (eye.fc1.weight, t[at + "mlp.fc1.weight"]),
        "fc2": (eye.fc2.bias, t[at + "mlp.fc2.bias"]),
        "projector": (w.projector.weight, t["multi_modal_projector.linear.weight"]),
        "embed": (w.decoder.embed, t[EMBEDDING]),
        "head": (w.decoder.head, t[EMBEDDING]),
        "final": (w.decoder.final_norm, t[GAIN]),
        "before attention": (reader.attention_norm, t[text + "input_layernorm.weight"]),
        "before mlp": (reader.mlp_norm, t[text + "post_attention_layernorm.weight"]),
        "text q": (reader.q_proj, t[text + "self_attn.q_proj.weight"]),
        "text k": (reader.k_proj, t[text + "self_attn.k_proj.weight"]),
        "text v": (reader.v_proj, t[text + "self_attn.v_proj.weight"]),
        "text o": (reader.o_proj, t[text + "self_attn.o_proj.weight"]),
        "gate": (reader.gate_proj, t[text + "mlp.gate_proj.weight"]),
        "up": (reader.up_proj, t[text + "mlp.up_proj.weight"]),
        "down": (reader.down_proj, t[text + "mlp.down_proj.weight"]),
    }
    for name, (found, expected) in pairs.items():
        np.testing.assert_array_equal(found, expected, err_msg=name)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_weights(
    tiny_folder: Path, tmp_path: Path, layout: str
) -> None:
    folder = write_checkpoint(tmp_path / "x", rename=LAYOUTS[layout])
    assert_same(load(folder), load(tiny_folder))


def test_shards_give_the_same_weights(tiny_folder: Path, tmp_path: Path) -> None:
    assert_same(load(write_shards(tmp_path / "x")), load(tiny_folder))


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
@pytest.mark.parametrize("held", ["bfloat16", "float16", "float32", "float64"])
def test_a_file_of_16_bits_is_held_as_asked(
    tmp_path: Path, dtype: str, held: str
) -> None:
    t = {n: np.round(x * 8) / 8 for n, x in random_tensors().items()}  # exact in all
    w = load(write_checkpoint(tmp_path / "x", t, dtype=dtype), held)
    names, wide = dict(leaves(w)), np.float64 if held == "float64" else np.float32
    assert {array.dtype for array in names.values()} == {np.dtype(wide)}
    np.testing.assert_array_equal(names[".decoder.embed"], t[EMBEDDING])
    np.testing.assert_array_equal(names[".decoder.final_norm"], t[GAIN])
    assert isinstance(w.decoder.embed, HeldMatrix) == held.endswith("16")


def test_what_a_bfloat16_hold_rounds_is_the_matrices_alone(tiny_folder: Path) -> None:
    t, w = random_tensors(), load(tiny_folder, "bfloat16")
    names = dict(leaves(w))
    rounded = widen_bfloat16(round_to_bfloat16(t[EMBEDDING]))
    np.testing.assert_array_equal(names[".decoder.embed"], rounded)
    np.testing.assert_array_equal(names[".decoder.final_norm"], t[GAIN])


def test_without_a_head_the_embedding_is_the_head(tiny_folder: Path) -> None:
    w = load(tiny_folder, "bfloat16")
    assert w.decoder.head is w.decoder.embed


@pytest.mark.parametrize("name", [HEAD, "language_model.lm_head.weight"])
def test_a_head_that_is_a_copy_is_dropped(
    tiny_folder: Path, tmp_path: Path, name: str
) -> None:
    t = random_tensors()
    w = load(write_checkpoint(tmp_path / "x", t | {name: t[EMBEDDING]}))
    assert w.decoder.head is w.decoder.embed
    assert_same(w, load(tiny_folder))


def test_a_head_of_its_own_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    t = random_tensors()
    head = t[EMBEDDING].copy()
    head[-1, -1] += 1
    with caplog.at_level(logging.INFO):
        w = load(write_checkpoint(tmp_path / "x", t | {HEAD: head}))
    np.testing.assert_array_equal(w.decoder.head, head)
    np.testing.assert_array_equal(w.decoder.embed, t[EMBEDDING])
    assert "the head differs from the embedding" in caplog.text


def test_a_head_without_an_embedding_is_both(tmp_path: Path) -> None:
    t = random_tensors()
    head = t.pop(EMBEDDING)
    w = load(write_checkpoint(tmp_path / "x", t | {HEAD: head}))
    assert w.decoder.embed is w.decoder.head
    np.testing.assert_array_equal(w.decoder.embed, head)


def test_buffers_and_the_pooling_head_are_left_out(
    tiny_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    extra: Tensors = {
        f"{EYE}head.probe": np.ones((1, 1, 15)),
        "vision_tower.head.layernorm.weight": np.ones(15),
        "language_model.model.rotary_emb.inv_freq": np.ones(3),
        "language_model.model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(3),
    }
    folder = write_checkpoint(tmp_path / "x", random_tensors() | extra)
    with caplog.at_level(logging.INFO):
        assert_same(load(folder), load(tiny_folder))
    assert "left out: SigLIP's pooling head (2 tensors)" in caplog.text


def test_a_buffer_of_whole_numbers_is_no_wrong_dtype(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "x")
    tensors = {name: stored(x) for name, x in random_tensors().items()}
    tensors[f"{EYE}embeddings.position_ids"] = stored(np.arange(9), "I64")
    write_safetensors(folder / "model.safetensors", tensors)
    load(folder)


def without(t: Tensors) -> Tensors:
    return {name: x for name, x in t.items() if name != Q}


BROKEN: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "missing": (without, f"1 missing ({Q})"),
    "unexpected": (lambda t: t | {"odd.weight": t[GAIN]}, "1 unexpected (odd.weight)"),
    "transposed": (
        lambda t: t | {Q: t[Q].T},
        f"1 of another shape ({Q} expected (24, 10), found (10, 24))",
    ),
    "another layer": (
        lambda t: t | {Q.replace(".1.", ".3."): t[Q]},
        f"1 unexpected ({Q.replace('.1.', '.3.')})",
    ),
    "a flat patch kernel": (
        lambda t: {
            n: x.reshape(15, 48) if "patch_embedding.w" in n else x
            for n, x in t.items()
        },
        "patch_embedding.weight expected (15, 3, 4, 4), found (15, 48))",
    ),
    "rows short": (
        lambda t: t | {EMBEDDING: t[EMBEDDING][:-1]},
        f"expected ({VOCABULARY}, 10), found ({VOCABULARY - 1}, 10)",
    ),
    "a head of another shape": (
        lambda t: t | {HEAD: t[EMBEDDING][:, :9]},
        f"{HEAD} expected ({VOCABULARY}, 10), found ({VOCABULARY}, 9)",
    ),
    "neither head nor embedding": (
        lambda t: {n: x for n, x in t.items() if n != EMBEDDING},
        f"1 missing ({EMBEDDING})",
    ),
    "a foreign prefix": (
        lambda t: {f"module.{n}": x for n, x in t.items()},
        f"{len(random_tensors())} missing (",
    ),
    "twice": (
        lambda t: t | {"model.language_model.norm.weight": t[GAIN]},
        f"{GAIN} there more than once, under names that mean the same",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_does_not_agree_is_named(tmp_path: Path, case: str) -> None:
    break_it, told = BROKEN[case]
    folder = write_checkpoint(tmp_path / "x", break_it(random_tensors()))
    with pytest.raises(ValueError, match=r"more than once|are not those") as caught:
        load(folder)
    assert str(caught.value).startswith(f"{folder}: ")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_that_is_wrong_comes_in_one_error(tmp_path: Path) -> None:
    t = without(random_tensors()) | {"odd.weight": np.zeros(3)}
    t[GAIN] = t[GAIN][:-1]
    folder = write_checkpoint(tmp_path / "x", t)
    tensors = {n: stored(x, "I64" if "projector" in n else "F32") for n, x in t.items()}
    write_safetensors(folder / "model.safetensors", tensors)
    with pytest.raises(ValueError, match="are not those that") as caught:
        load(folder)
    for told in [
        f"1 missing ({Q})",
        "1 unexpected (odd.weight)",
        f"1 of another shape ({GAIN} expected (10,), found (9,))",
        "2 of another dtype than BF16, F16, F32 (multi_modal_projector.linear.",
        "is I64",
    ]:
        assert told in str(caught.value)


def test_a_long_list_is_cut_and_counted(tmp_path: Path) -> None:
    t = {n: x for n, x in random_tensors().items() if "layer_norm" not in n}
    folder = write_checkpoint(tmp_path / "x", t)
    with pytest.raises(ValueError, match=r"8 missing \(.* and 3 more\)") as caught:
        load(folder)
    assert str(caught.value).count("layer_norm") == 5


def test_names_and_shapes_are_checked_before_a_byte_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_checkpoint(tmp_path / "x", without(random_tensors()))

    def refuse(*args: object) -> None:
        pytest.fail(f"bytes were read: {args}")

    monkeypatch.setattr(np, "memmap", refuse)
    with pytest.raises(ValueError, match="1 missing"):
        load(folder)


@pytest.mark.parametrize(
    ("section", "field"),
    [("text_config", "num_hidden_layers"), ("vision_config", "num_hidden_layers")],
)
def test_a_config_with_fewer_layers_than_the_file_is_refused(
    tmp_path: Path, section: str, field: str
) -> None:
    folder = write_checkpoint(tmp_path / "x")
    write_config(folder, **{section: {field: 1}})
    with pytest.raises(ValueError, match=r"\d+ unexpected \("):
        load(folder)


def test_a_dtype_that_nobody_knows_is_refused(tiny_folder: Path) -> None:
    known = "bfloat16, float16, float32, float64, int8"
    told = f"^dtype: expected one of {known}, found 'int3'$"
    with pytest.raises(ValueError, match=told):
        load_hf_model(tiny_folder, dtype="int3")


def test_pictures_and_model_of_different_checkpoints_are_refused(
    tmp_path: Path,
) -> None:
    folder = write_checkpoint(tmp_path / "x")
    size = {"size": {"height": 28, "width": 28}}
    (folder / "preprocessor_config.json").write_text(json.dumps(size))
    told = (
        "size 28, but by config.json image_size is 14; the two files are of different"
    )
    with pytest.raises(ValueError, match=told):
        load_hf_model(folder, device="cpu")


def test_the_processor_is_found_where_transformers_5_puts_it(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "x")
    fields = (folder / "preprocessor_config.json").read_text(encoding="utf-8")
    (folder / "preprocessor_config.json").unlink()
    together = {"image_processor": json.loads(fields), "image_seq_length": 9}
    (folder / "processor_config.json").write_text(json.dumps(together))
    _, processor = load_hf_model(folder, device="cpu")
    assert processor.image_settings.size == 14
    (folder / "processor_config.json").unlink()
    with pytest.raises(ValueError, match=r"preprocessor_config\.json: no such file"):
        load_hf_model(folder, device="cpu")


@pytest.mark.parametrize(
    "said",
    [
        {"image_processor": {"size": 14, "resample": 3, "image_seq_length": 9}},
        {"image_processor": None},
        {"processor_class": "PaliGemmaProcessor", "image_seq_length": 9},
    ],
    ids=["the-same", "null", "older"],
)
def test_two_files_that_agree_on_pictures_are_as_good_as_one(
    tmp_path: Path, said: object
) -> None:
    folder = write_checkpoint(tmp_path / "x")
    _, alone = load_hf_model(folder, device="cpu")
    (folder / "processor_config.json").write_text(json.dumps(said))
    _, both = load_hf_model(folder, device="cpu")
    assert both.image_settings == alone.image_settings


@pytest.mark.parametrize("fields", [[], 3, "SiglipImageProcessor", None], ids=repr)
def test_a_processor_section_that_is_no_object_is_refused(
    tmp_path: Path, fields: object
) -> None:
    folder = write_checkpoint(tmp_path / "x")
    (folder / "preprocessor_config.json").unlink()
    together = json.dumps({"image_processor": fields})
    (folder / "processor_config.json").write_text(together)
    told = r"processor_config\.json: image_processor: expected an object, found"
    with pytest.raises(ValueError, match=told):
        load_hf_model(folder, device="cpu")


@pytest.mark.parametrize(("dtype", "noted"), [("float32", 0), ("bfloat16", 1)])
def test_one_note_tells_what_was_converted_and_how_long_it_took(
    tiny_folder: Path, caplog: pytest.LogCaptureFixture, dtype: str, noted: int
) -> None:
    with caplog.at_level(logging.DEBUG, "numpy_paligemma"):
        load(tiny_folder, dtype)
    notes = [r for r in caplog.records if r.message.startswith("converted ")]
    assert len(notes) == noted
    for note in notes:
        told = r"converted \d\d matrices from float32 to bfloat16 in 0\.\d s"
        assert re.fullmatch(told, note.message)
        assert note.levelno == logging.DEBUG  # so quick that it needs no line


@pytest.mark.parametrize(
    ("field", "value", "neutral"),
    [
        ("repetition_penalty", 1.2, 1.0),
        ("no_repeat_ngram_size", 3, 0),
        ("suppress_tokens", [5, 6], []),
        ("bad_words_ids", [[5]], None),
        ("min_new_tokens", 4, 0),
        ("num_beams", 4, 1),
    ],
)
def test_what_generation_config_asks_and_is_not_done_is_told_once(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    field: str,
    value: object,
    neutral: object,
) -> None:
    folder = write_checkpoint(tmp_path / "x")
    path = folder / "generation_config.json"
    for said in [value, neutral]:
        path.write_text(json.dumps({field: said, "guidance_scale": 1.0}))
        load_hf_model(folder, device="cpu")
    (warning,) = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert warning.startswith(f"warning: {path}: {field} is not followed here")
