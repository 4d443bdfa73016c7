"""A LoRA adapter: merged by the formula, and refused where it does not fit."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_load import assert_same, leaves
from tiny import (
    Stored,
    Tensors,
    random_tensors,
    shapes,
    stored,
    write_checkpoint,
    write_safetensors,
)

from numpy_paligemma import load_hf_model
from numpy_paligemma.arrays.formats import round_to_bfloat16, widen_bfloat16
from numpy_paligemma.arrays.matrix import HeldMatrix
from numpy_paligemma.checkpoints.config import read_config
from numpy_paligemma.checkpoints.load import load_weights
from numpy_paligemma.checkpoints.lora.adapter import read_adapter
from numpy_paligemma.checkpoints.lora.merge import Change, tell
from numpy_paligemma.model.pipeline import PaliGemmaWeights

FRONT = "base_model.model."
EYE, TEXT = "vision_tower.vision_model.encoder.layers.", "language_model.model.layers."
EMBEDDING = "language_model.model.embed_tokens"
TARGETS = ("q_proj", "o_proj")
CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "r": 2,
    "lora_alpha": 6,
    "target_modules": list(TARGETS),
    "bias": "none",
    "qalora_group_size": 16,  # what peft writes though it is off
    "megatron_core": "megatron.core",
}
Q = f"{TEXT}1.self_attn.q_proj"


def factors(seed: int = 3) -> Tensors:
    """Draw A and B for every matrix that a target names."""
    rng = np.random.default_rng(seed)
    out: Tensors = {}
    for name, shape in shapes().items():
        module = name.removesuffix(".weight")
        if module.endswith(TARGETS) and name.endswith(".weight"):
            out[f"{FRONT}{module}.lora_A.weight"] = rng.normal(size=(2, shape[1]))
            out[f"{FRONT}{module}.lora_B.weight"] = rng.normal(size=(shape[0], 2))
    return {name: x.astype(np.float32) for name, x in out.items()}


def write_adapter(
    folder: Path, tensors: Tensors | None = None, dtype: str = "F32", **changes: Any
) -> Path:
    """Write an adapter's two files; its folder."""
    folder.mkdir(exist_ok=True)
    tensors = factors() if tensors is None else tensors
    files: dict[str, Stored] = {name: stored(x, dtype) for name, x in tensors.items()}
    write_safetensors(folder / "adapter_model.safetensors", files)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | changes))
    return folder


def merged(base: Path, adapter: Path, dtype: str = "float64") -> PaliGemmaWeights:
    return load_weights(base, read_config(base), dtype, read_adapter(adapter))


def change(name: str, given: Tensors, scale: float = 3) -> np.ndarray:
    a, b = (given[f"{FRONT}{name}.lora_{x}.weight"].astype(float) for x in "AB")
    return scale * b @ a


def assert_close(found: PaliGemmaWeights, by_name: dict[str, np.ndarray]) -> None:
    """Compare some weights with what the formula says, in float64."""
    blocks, eye = found.decoder.blocks, found.vision
    places = {f"{TEXT}{i}.self_attn.q_proj": b.q_proj for i, b in enumerate(blocks)}
    places |= {f"{TEXT}{i}.self_attn.o_proj": b.o_proj for i, b in enumerate(blocks)}
    for i, block in enumerate(eye.blocks):
        places[f"{EYE}{i}.self_attn.q_proj"] = block.q_proj.weight
    for name, x in by_name.items():
        np.testing.assert_allclose(places[name], x, rtol=0, atol=1e-14, err_msg=name)


def test_every_target_moves_by_the_formula_and_nothing_else_moves(
    tiny_folder: Path, tmp_path: Path
) -> None:
    given, t = factors(), random_tensors()
    found = merged(tiny_folder, write_adapter(tmp_path / "a", given))
    names = [n.removeprefix(FRONT).partition(".lora")[0] for n in given]
    assert len(set(names)) == 8
    assert_close(found, {n: t[f"{n}.weight"] + change(n, given) for n in names})
    base = load_weights(tiny_folder, read_config(tiny_folder), "float64")
    moved = [
        name
        for (name, x), (_, y) in zip(leaves(found), leaves(base), strict=True)
        if not np.array_equal(x, y)
    ]
    assert len(moved) == 8
    assert all(".q_proj" in name or ".o_proj" in name for name in moved)


@pytest.mark.parametrize(
    ("changes", "scale"),
    [
        ({"lora_alpha": 1}, 0.5),
        ({"use_rslora": True}, 6 / 2**0.5),
        ({"alpha_pattern": {"q_proj": 5}}, 2.5),
        ({"alpha_pattern": {"proj": 5}}, 3),  # the end of a path, but no whole name
        ({"alpha_pattern": {r"layers\.[01]\..*q_proj": 8, "q_proj": 5}}, 4),
        ({"alpha_pattern": {"q_proj": 5, r"layers\.[01]\..*q_proj": 8}}, 2.5),
    ],
    ids=str,
)
def test_the_scale_is_alpha_over_r_or_as_the_config_has_it(
    tiny_folder: Path, tmp_path: Path, changes: dict[str, Any], scale: float
) -> None:
    given = factors()
    found = merged(tiny_folder, write_adapter(tmp_path / "a", given, **changes))
    want = random_tensors()[f"{Q}.weight"] + change(Q, given, scale)
    assert_close(found, {Q: want})


@pytest.mark.parametrize("held", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
def test_a_merge_is_worked_out_wide_and_then_held_as_asked(
    tmp_path: Path, dtype: str, held: str
) -> None:
    base = write_checkpoint(tmp_path / "b", dtype=dtype)
    adapter = write_adapter(tmp_path / "a", dtype=dtype)
    wide = merged(base, adapter, "float64").decoder.blocks[1].q_proj
    found = merged(base, adapter, held).decoder.blocks[1].q_proj
    if held == "float64":
        np.testing.assert_array_equal(found, wide)
        return
    single = merged(base, adapter, "float32").decoder.blocks[1].q_proj
    assert isinstance(single, np.ndarray)
    np.testing.assert_allclose(single, wide, rtol=0, atol=3e-6)
    if isinstance(found, HeldMatrix):
        rounded = single.astype(np.float16).astype(np.float32)
        if held == "bfloat16":
            rounded = widen_bfloat16(round_to_bfloat16(single))
        np.testing.assert_array_equal(found[np.arange(24)], rounded)


def test_the_records_say_how_far_each_matrix_moved(
    tiny_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = factors()
    folder = write_adapter(tmp_path / "a", given)
    with caplog.at_level(logging.INFO):
        model, _ = load_hf_model(tiny_folder, adapter=folder, device="cpu")
    by_name = {record.name: record for record in model.changes}
    assert len(by_name) == 8
    record = by_name[f"{Q}.weight"]
    w, moved = random_tensors()[f"{Q}.weight"], change(Q, given)
    norms = [np.linalg.norm(moved), np.linalg.norm(w)]
    np.testing.assert_allclose([record.change, record.base], norms, rtol=1e-5)
    assert record.share == record.change / record.base
    assert (record.rank, record.scale) == (2, 3)
    least, *_, most = sorted(model.changes, key=lambda x: x.share)
    median = np.median([x.share for x in model.changes])
    told = (
        f"adapter: 8 matrices changed by {least.share:.2g} ({brief(least.name)}) to "
        f"{most.share:.2g} ({brief(most.name)}) of their norm, median {median:.2g}; as "
        "bfloat16"
    )
    assert told in caplog.text
    assert load_hf_model(tiny_folder, device="cpu")[0].changes == ()


def brief(name: str) -> str:
    """Shorten a name of one of the blocks."""
    parts = name.removesuffix(".weight").split(".")
    tower = "vision" if name.startswith("vision") else "language"
    return f"{tower} {parts[parts.index('layers') + 1]} {parts[-1]}"


def test_the_summary_is_a_line_that_fits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    front = "vision_tower.vision_model."
    names = [f"{front}encoder.layers.26.self_attn.out_proj.weight"] * 298
    names += [f"{front}embeddings.patch_embedding.weight"]
    names += ["language_model.model.layers.41.self_attn.down_proj.weight"]
    changes = [Change(n, 8, 2.0, 1.2e-5 * i, 1.0) for i, n in enumerate(names, start=1)]
    adapter = read_adapter(write_adapter(tmp_path / "a"))
    some = {str(i): next(iter(adapter.updates.values())).a for i in range(12)}
    with caplog.at_level(logging.INFO):
        tell(changes, replace(adapter, replaced=some), "bfloat16")
        tell(changes[-2:], adapter, "float32")
    long, short = caplog.messages
    assert long == (
        "adapter: 300 matrices changed by 1.2e-05 (vision 26 out_proj) to 0.0036 "
        "(language 41 down_proj) of their norm, median 0.0018; 12 replaced; as bfloat16"
    )
    assert len(long) <= 160
    assert "(patch_embedding)" in short
    assert short.endswith("median 0.0036")


def test_a_matrix_of_nought_has_no_share() -> None:
    assert Change("x", 1, 1.0, change=2.0, base=0.0).share == np.inf


def test_an_adapter_as_it_was_before_training_is_warned_about(
    tiny_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = {n: x * ("lora_A" in n) for n, x in factors().items()}
    found = merged(tiny_folder, write_adapter(tmp_path / "a", given))
    assert "warning: " in caplog.text
    assert (
        "every B · A is nought, as before training: nothing is changed" in caplog.text
    )
    assert_same(found, load_weights(tiny_folder, read_config(tiny_folder), "float64"))


@pytest.mark.parametrize(
    ("name", "warned"),
    [
        ("google/paligemma-3b-pt-448", True),
        ("somewhere/Checkpoint/", False),
        (None, False),
    ],
)
def test_a_base_of_another_name_is_warned_about(
    tiny_folder: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str | None,
    warned: bool,
) -> None:
    folder = write_adapter(tmp_path / "a", base_model_name_or_path=name)
    load_hf_model(tiny_folder, adapter=folder, device="cpu")
    assert (f"trained on {name} and is put on {tiny_folder}" in caplog.text) == warned


def test_rows_are_scaled_to_learned_lengths(tiny_folder: Path, tmp_path: Path) -> None:
    given = factors()
    modules = {name.partition(".lora")[0]: x for name, x in given.items()}
    rng = np.random.default_rng(0)
    lengths = {
        f"{m}.lora_magnitude_vector": rng.uniform(1, 2, len(x)).astype(np.float32)
        for m, x in modules.items()
    }
    folder = write_adapter(tmp_path / "a", given | lengths, use_dora=True)
    moved = random_tensors()[f"{Q}.weight"] + change(Q, given)
    m = lengths[f"{FRONT}{Q}.lora_magnitude_vector"].astype(float)[:, None]
    want = m * moved / np.linalg.norm(moved, axis=1, keepdims=True)
    assert_close(merged(tiny_folder, folder), {Q: want})


def test_an_embedding_is_changed_where_it_is_looked_up_and_not_as_the_head(
    tiny_folder: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    rows, width = shapes()[f"{EMBEDDING}.weight"]
    a, b = (rng.normal(size=s).astype(np.float32) for s in [(2, rows), (width, 2)])
    given = {
        f"{FRONT}{EMBEDDING}.lora_embedding_A": a,
        f"{FRONT}{EMBEDDING}.lora_embedding_B": b,
    }
    folder = write_adapter(tmp_path / "a", given, target_modules=["embed_tokens"])
    w = merged(tiny_folder, folder).decoder
    t = random_tensors()[f"{EMBEDDING}.weight"]
    np.testing.assert_array_equal(w.head, t)
    want = t + 3 * (b.astype(float) @ a).T
    np.testing.assert_allclose(w.embed, want, rtol=0, atol=1e-14)
    # the table that it was trained on may lie beside it; the head is that one too
    base = {f"{FRONT}{EMBEDDING}.base_layer.weight": 2 * t}
    folder = write_adapter(
        tmp_path / "a", given | base, target_modules=["embed_tokens"]
    )
    w = merged(tiny_folder, folder).decoder
    np.testing.assert_array_equal(w.head, 2 * t)
    np.testing.assert_allclose(w.embed, want + t, rtol=0, atol=1e-14)


def test_whole_modules_and_biases_replace_what_was_there(
    tiny_folder: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    bias = f"{EYE}0.self_attn.q_proj.bias"
    names = ["multi_modal_projector.linear.weight", "multi_modal_projector.linear.bias"]
    new = {n: rng.normal(size=shapes()[n]).astype(np.float32) for n in [*names, bias]}
    given = factors() | {f"{FRONT}model.{n}": new[n] for n in names}
    given[f"{FRONT}{bias.removesuffix('bias')}base_layer.bias"] = new[bias]
    options = {"modules_to_save": ["multi_modal_projector"], "bias": "lora_only"}
    w = merged(tiny_folder, write_adapter(tmp_path / "a", given, **options))
    np.testing.assert_array_equal(w.projector.weight, new[names[0]])
    np.testing.assert_array_equal(w.projector.bias, new[names[1]])
    np.testing.assert_array_equal(w.vision.blocks[0].q_proj.bias, new[bias])


def test_trained_biases_are_added_times_the_scale(
    tiny_folder: Path, tmp_path: Path
) -> None:
    given = factors()
    given |= {
        name.replace(".weight", ".bias"): x[:, 0].copy()
        for name, x in given.items()
        if "lora_B" in name
    }
    targets = {"target_modules": ["q_proj"], "exclude_modules": ".*language.*"}
    only_eye = {n: x for n, x in given.items() if "vision" in n}
    folder = write_adapter(tmp_path / "a", only_eye, lora_bias=True, **targets)
    name = f"{EYE}1.self_attn.q_proj"
    want = random_tensors()[f"{name}.bias"] + 3 * only_eye[
        f"{FRONT}{name}.lora_B.bias"
    ].astype(float)
    found = merged(tiny_folder, folder).vision.blocks[1].q_proj.bias
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-14)
    folder = write_adapter(tmp_path / "a", given, lora_bias=True)
    told = r"6 for nothing that the model has \(language_model\..*o_proj\.bias"
    with pytest.raises(ValueError, match=told):
        merged(tiny_folder, folder)


A, B = f"{FRONT}{Q}.lora_A.weight", f"{FRONT}{Q}.lora_B.weight"


def without(*names: str) -> Callable[[Tensors], Tensors]:
    return lambda t: {name: x for name, x in t.items() if name not in names}


def reshaped(name: str, f: Callable[[np.ndarray], np.ndarray]) -> Any:
    return lambda t: t | {name: f(t[name])}


BROKEN: dict[str, tuple[Callable[[Tensors], Tensors], dict[str, Any], str]] = {
    "half a pair": (
        without(B),
        {},
        f"1 not of the parts that the config asks for ({Q}.weight has lora_A.weight)",
    ),
    "a layer without": (
        without(A, B),
        {},
        f"1 named as targets and without factors ({Q}.weight)",
    ),
    "a target without": (
        dict,
        {"target_modules": [*TARGETS, "gate_proj"]},
        "1 named as targets and without factors (gate_proj)",
    ),
    "a transposed A": (
        reshaped(A, np.transpose),
        {},
        f"1 of another rank ({Q}.weight expected 2, found (10, 2))",
    ),
    "a transposed B": (
        reshaped(B, np.transpose),
        {},
        f"1 of another shape ({Q}.weight: B expected (24, 2), found (2, 24))",
    ),
    "another rank": (
        dict,
        {"rank_pattern": {"layers.1.self_attn.q_proj": 4}},
        "2 of another rank (",
    ),
    "of a wider model": (
        reshaped(A, lambda x: np.tile(x, 2)),
        {},
        f"1 of another shape ({Q}.weight: A expected (2, 10), found (2, 20))",
    ),
    "of a deeper model": (
        lambda t: {n.replace("layers.1", "layers.7"): x for n, x in t.items()},
        {"layers_to_transform": [0, 2, 7]},
        "3 for nothing that the model has (language_model.model.layers.7.self_attn.o_",
    ),
    "a stray": (
        lambda t: t | {"base_model.model.x.lora_C.weight": t[A]},
        {},
        "1 unexpected (base_model.model.x.lora_C.weight)",
    ),
    "an undeclared whole tensor": (
        lambda t: t | {f"{FRONT}multi_modal_projector.linear.bias": np.zeros(10)},
        {},
        "1 unexpected (base_model.model.multi_modal_projector.linear.bias)",
    ),
    "a module that was not saved": (
        dict,
        {"modules_to_save": ["multi_modal_projector"]},
        "1 named in modules_to_save and not there (multi_modal_projector)",
    ),
    "a whole tensor of another shape": (
        lambda t: t | {f"{FRONT}multi_modal_projector.linear.bias": np.zeros(9)},
        {"bias": "all"},
        "1 of another shape (multi_modal_projector.linear.bias expected (10,), found",
    ),
    "magnitudes that lack": (dict, {"use_dora": True}, "8 not of the parts that the"),
    "magnitudes that nobody asked for": (
        lambda t: t | {f"{FRONT}{Q}.lora_magnitude_vector": np.ones(24)},
        {},
        "1 not of the parts that the config asks for",
    ),
    "the same under two names": (
        lambda t: t | {A.replace("language_model.model", "model.language_model"): t[A]},
        {},
        "1 there more than once, under names that mean the same (base_model.model.mod",
    ),
    "no prefix": (
        lambda t: {n.removeprefix(FRONT): x for n, x in t.items()},
        {},
        "16 unexpected (",
    ),
    "nothing": (lambda _: {}, {"target_modules": "all-linear"}, "no lora_A and lora_B"),
    "not a number": (
        reshaped(B, lambda x: x * np.nan),
        {},
        f"{Q}.weight: the change is not finite: the adapter, or the model, holds NaN",
    ),
    "not a number in a tensor that is there whole": (
        lambda t: (
            t | {f"{FRONT}multi_modal_projector.linear.bias": np.full(10, np.nan)}
        ),
        {"modules_to_save": ["multi_modal_projector"]},
        f"{FRONT}multi_modal_projector.linear.bias holds NaN; ask whoever trained it",
    ),
    "infinity in an embedding that is there whole": (
        lambda t: t | {f"{FRONT}{EMBEDDING}.weight": np.full((2059, 10), -np.inf)},
        {"modules_to_save": ["embed_tokens"]},
        f"{FRONT}{EMBEDDING}.weight holds infinity; ask whoever trained it",
    ),
    "not a number in an embedding that was trained on": (
        lambda t: (
            t
            | {f"{FRONT}{EMBEDDING}.base_layer.weight": np.full((2059, 10), np.nan)}
            | {f"{FRONT}{EMBEDDING}.lora_embedding_A": np.zeros((2, 2059))}
            | {f"{FRONT}{EMBEDDING}.lora_embedding_B": np.zeros((10, 2))}
        ),
        {"target_modules": [*TARGETS, "embed_tokens"]},
        f"{FRONT}{EMBEDDING}.base_layer.weight holds NaN; ask whoever trained it",
    ),
    "not a number in a bias that is added": (
        lambda t: (
            {n: x for n, x in t.items() if EYE in n}
            | {
                n.replace("lora_B.weight", "lora_B.bias"): np.full(15, np.nan)
                for n in t
                if EYE in n and "lora_B" in n
            }
        ),
        {
            "lora_bias": True,
            "target_modules": ["q_proj"],
            "exclude_modules": ".*language.*",
        },
        "lora_B.bias holds NaN; ask whoever trained it",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_does_not_fit_is_named_in_one_line(
    tiny_folder: Path, tmp_path: Path, case: str
) -> None:
    break_it, changes, told = BROKEN[case]
    folder = write_adapter(tmp_path / "a", break_it(factors()), **changes)
    with pytest.raises(ValueError, match="adapter") as caught:
        load_hf_model(tiny_folder, adapter=folder, device="cpu")
    assert str(caught.value).startswith(str(folder / "adapter_model.safetensors"))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


MODERN = {"language_model.model": "model.language_model"}
MODERN |= {"vision_tower.vision_model": "model.vision_tower"}


def modern(name: str) -> str:
    """Spell a key as transformers 5 does."""
    for old, new in MODERN.items():
        name = name.replace(old, new)
    return name


@pytest.mark.parametrize("spell", [str, modern], ids=["published", "transformers 5"])
@pytest.mark.parametrize(
    ("expression", "more"),
    [
        (r".*\.(q_proj|o_proj)", 0),
        (r"(model\.)?language_model\..*\.(q|o)_proj|.*vision.*q_proj", 0),
        (r".*\.(q_proj|o_proj|v_proj)", 5),
        ("all-linear", 26),
        ("All-Linear", 26),
    ],
)
def test_an_expression_names_what_has_to_be_there(
    tiny_folder: Path,
    tmp_path: Path,
    spell: Callable[[str], str],
    expression: str,
    more: int,
) -> None:
    given = {spell(name): x for name, x in factors().items()}
    options = {"target_modules": expression}
    folder = write_adapter(tmp_path / "a", given, **options)
    if not more:
        found = merged(tiny_folder, folder)
        assert_same(found, merged(tiny_folder, write_adapter(tmp_path / "b")))
    half = {n: x for n, x in given.items() if "layers.1.self_attn.q_proj" not in n}
    told = rf"{more + 2} named as targets and without factors \("
    with pytest.raises(ValueError, match=told):
        merged(tiny_folder, write_adapter(tmp_path / "a", half, **options))


@pytest.mark.parametrize("expression", [".*nonsense", "", "q_proj", "(q_proj|o_proj)"])
def test_an_expression_that_matches_no_whole_path_is_refused(
    tiny_folder: Path, tmp_path: Path, expression: str
) -> None:
    folder = write_adapter(tmp_path / "a", target_modules=expression)
    with pytest.raises(ValueError, match="matches no module of the model") as caught:
        merged(tiny_folder, folder)
    assert str(caught.value).startswith(str(folder / "adapter_config.json"))


@pytest.mark.parametrize("mixed", [False, True])
def test_what_cannot_be_checked_is_warned_about(
    tiny_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, mixed: bool
) -> None:
    given = {n: x for n, x in factors().items() if "vision" not in n}
    # by the names of text alone, the eye may have been called either way
    options = {
        "target_modules": r".*language.*(q|o)_proj|model\.vision_tower\.enc.*q_proj"
    }
    given = {
        modern(n) if not mixed or "q_proj" in n else n: x for n, x in given.items()
    }
    merged(tiny_folder, write_adapter(tmp_path / "a", given, **options))
    assert "target_modules" in caplog.text
    assert "could not be checked" in caplog.text


def test_no_targets_at_all_are_warned_about(
    tiny_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    merged(tiny_folder, write_adapter(tmp_path / "a", target_modules=None))
    assert "could not be checked: it names nothing" in caplog.text


REFUSED: dict[str, Any] = {
    "peft_type": ["LOHA", None, ["LORA"]],
    "r": [None, 0, "8", True, 2.5],
    "lora_alpha": [None, -1, []],
    "bias": ["some"],
    "init_lora_weights": [
        "pissa",
        "pissa_niter_4",
        "olora",
        "corda",
        "loftq",
        "lora_ga",
    ],
    "use_rslora": ["yes", 1],
    "target_modules": [3, [1], "(q_proj"],
    "modules_to_save": ["lm_head"],
    "rank_pattern": [["q_proj"], {"q_proj": 0}, {"q_proj": None}, {"(": 2}],
    "alpha_pattern": [{"q_proj": "8"}],
    "base_model_name_or_path": [3],
    "fan_in_fan_out": [True],
    "layer_replication": [[[0, 3], [1, 3]]],
    "use_qalora": [True],
    "use_bdlora": [{"nblocks": 2}],
    "arrow_config": [{"top_k": 3}],
    "target_parameters": [["experts.weight"]],
    "trainable_token_indices": [[1, 2], {"embed_tokens": [3]}],
    "ensure_weight_tying": [True],
    "alora_invocation_tokens": [[5]],
    "megatron_config": [{"a": 1}],
    "loftq_config": [{"bits": 4}],
    "some_new_kind": [True],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, x) for name, xs in REFUSED.items() for x in xs], ids=str
)
def test_another_kind_of_adapter_is_refused_by_its_field(
    tiny_folder: Path, tmp_path: Path, name: str, value: Any
) -> None:
    folder = write_adapter(tmp_path / "a", **{name: value})
    with pytest.raises(ValueError, match=name) as caught:
        load_hf_model(tiny_folder, adapter=folder, device="cpu")
    assert str(caught.value).startswith(str(folder / "adapter_config.json"))
    assert "\n" not in str(caught.value)


# what peft 0.21 writes besides
OFF = {
    **dict.fromkeys(["task_type", "auto_mapping", "revision", "exclude_modules"]),
    **dict.fromkeys(["layers_to_transform", "layers_pattern", "megatron_config"]),
    **dict.fromkeys(["trainable_token_indices", "eva_config", "corda_config"]),
    **dict.fromkeys(["velora_config", "alora_invocation_tokens", "layer_replication"]),
    **dict.fromkeys(["target_parameters", "use_bdlora", "arrow_config", "kasa_config"]),
    **dict.fromkeys(["modules_to_save", "lora_ga_config", "monteclora_config"]),
    **dict.fromkeys(["fan_in_fan_out", "use_rslora", "use_dora", "use_qalora"], False),
    **dict.fromkeys(["lora_bias", "ensure_weight_tying"], False),
    "rank_pattern": {},
    "alpha_pattern": {},
    "loftq_config": {},
    "peft_version": "0.21.2",
    "inference_mode": True,
    "lora_dropout": 0.05,
    "init_lora_weights": True,
    "base_model_name_or_path": None,
}


def test_what_is_off_is_no_other_kind(tiny_folder: Path, tmp_path: Path) -> None:
    found = merged(tiny_folder, write_adapter(tmp_path / "a", **OFF))
    assert_same(found, merged(tiny_folder, write_adapter(tmp_path / "b")))


def test_files_that_lack_or_are_broken_are_told(
    tiny_folder: Path, tmp_path: Path
) -> None:
    def load(told: str) -> None:
        with pytest.raises(ValueError, match=told) as caught:
            load_hf_model(tiny_folder, adapter=tmp_path / "a", device="cpu")
        assert "\n" not in str(caught.value)

    load("no such folder; expected an adapter's, with adapter_config.json")
    folder = write_adapter(tmp_path / "a")
    file = folder / "adapter_model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-3])
    load("expected a whole safetensors file, but")
    file.unlink()
    load(r"expected adapter_model\.safetensors, found none; save it anew with peft")
    (folder / "adapter_model.bin").write_bytes(b"")
    load(r"found adapter_model\.bin, a pickle, which may run code")
    file.write_bytes(whole)
    (folder / "adapter_config.json").write_text("{")
    load(r"adapter_config\.json: expected JSON, but")
    (folder / "adapter_config.json").unlink()
    load(
        r"adapter_config\.json: no such file; expected an adapter's folder to hold one"
    )


def test_an_adapters_name_is_expanded_and_never_empty(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_adapter(tmp_path / "a")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert load_hf_model(tiny_folder, adapter="~/a", device="cpu")[0].changes
    with pytest.raises(ValueError, match="~nobody-here/a: no such folder"):
        load_hf_model(tiny_folder, adapter="~nobody-here/a", device="cpu")
    monkeypatch.chdir(tmp_path / "a")
    with pytest.raises(ValueError, match=r"^adapter: expected a folder .* empty name$"):
        load_hf_model(tiny_folder, adapter="", device="cpu")


def test_whole_numbers_as_factors_are_refused(
    tiny_folder: Path, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "a", dtype="I64")
    with pytest.raises(ValueError, match="16 of another dtype than BF16, F16, F32"):
        merged(tiny_folder, folder)
