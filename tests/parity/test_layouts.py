"""Every layout of the tensors gives what transformers gets from the same files."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tolerances import FLOAT32_LOGITS, FLOAT64, relative_error

transformers = pytest.importorskip("transformers")

import torch
from big_vision_arrays import big_vision_arrays, write_npz
from lifting import lifted
from random_models import (
    GEMMA_2_MODELS,
    MODELS,
    RandomModel,
    gemma_2,
    in_float64,
    our_model,
)
from safetensors.torch import save_file
from their_taps import their_logits

from numpy_paligemma.checkpoints.big_vision.config import archive_config
from numpy_paligemma.checkpoints.config import read_config
from numpy_paligemma.checkpoints.load import load_weights
from numpy_paligemma.paligemma import PaliGemma

pytestmark = pytest.mark.parity

# where <image> stands, in the table or not; one of each family
INSIDE, BEYOND = MODELS[0], GEMMA_2_MODELS[1]
Tensors = dict[str, torch.Tensor]
Rename = Callable[[str], str]
HEAD, EMBEDDING = "lm_head.weight", "model.language_model.embed_tokens.weight"


def published(name: str) -> str:
    """Name as on the hub, and as transformers up to 4.51 has it in memory."""
    name = re.sub(r"^model\.vision_tower\.", "vision_tower.vision_model.", name)
    name = re.sub(r"^model\.language_model\.", "language_model.model.", name)
    name = re.sub(r"^model\.multi_modal", "multi_modal", name)
    return re.sub(r"^lm_head\.", "language_model.lm_head.", name)


def in_memory_of_4_52(name: str) -> str:
    """Name as transformers 4.52 to 4.57 has it in memory."""
    return name.replace("model.vision_tower.", "model.vision_tower.vision_model.")


def saved_by_5(name: str) -> str:
    """Name as `save_pretrained` of transformers 5 writes it."""
    name = name.replace("model.language_model.", "language_model.model.")
    return name.removeprefix("model.")


def in_memory_of_5(name: str) -> str:
    """Name as `state_dict` of transformers 5 has it."""
    return name


DTYPES = ("float32", "bfloat16", "float16")
LAYOUTS = (published, in_memory_of_4_52, saved_by_5, in_memory_of_5)
each_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)


@pytest.fixture(params=(INSIDE, BEYOND), ids=("image-inside", "image-beyond"))
def pair(request: pytest.FixtureRequest, make_pair: Any) -> Any:
    return make_pair(request.param)


@each_layout
@pytest.mark.parametrize("head", ["no-head", "cloned-head"])
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_layout_is_read_as_transformers_reads_it(
    pair: Any, layout: Rename, head: str, shards: int, dtype: str, tmp_path: Path
) -> None:
    tensors = {k: x.to(getattr(torch, dtype)) for k, x in parameters(pair).items()}
    if head == "cloned-head":
        tensors[HEAD] = tensors[EMBEDDING].clone()
    write(tmp_path, pair, rename(tensors, layout), shards)
    truth = assert_same_logits(pair, tmp_path)
    if dtype == "float32":
        assert np.array_equal(our_logits(pair, tmp_path), our_logits(pair, pair.folder))
    else:
        real = pair.inputs["attention_mask"] == 1
        held = our_model(tmp_path, dtype).logits(**pair.inputs)
        assert relative_error(held[real], truth) <= FLOAT32_LOGITS


# the constants that an npz does not hold, and that no other model here has
PUBLISHED_2 = dataclasses.replace(
    BEYOND, name="2-published", more_text=gemma_2(BEYOND.text[3], 50, 30, 4096)
)


@pytest.mark.parametrize("model", [MODELS[1], PUBLISHED_2], ids=lambda m: m.name)
@pytest.mark.parametrize("compressed", [False, True], ids=["stored", "compressed"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_big_visions_arrays_give_the_logits_of_the_same_weights(
    make_pair: Any, model: RandomModel, dtype: str, compressed: bool, tmp_path: Path
) -> None:
    pair = make_pair(model)
    tensors = {k: x.to(getattr(torch, dtype)) for k, x in parameters(pair).items()}
    tensors = rename(tensors, published)
    write(tmp_path, pair, tensors)
    truth = assert_same_logits(pair, tmp_path)
    arrays = big_vision_arrays(
        {name: x.float().numpy() for name, x in tensors.items()},
        read_config(pair.folder),
    )
    kind = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}[dtype]
    path = write_npz(tmp_path / "x.npz", arrays, dtype=kind, compressed=compressed)
    config = archive_config(path)
    ours = PaliGemma(config, load_weights(path, config, "float64"))
    found = ours.logits(**pair.inputs)[pair.inputs["attention_mask"] == 1]
    assert np.array_equal(found, our_logits(pair, tmp_path))
    assert relative_error(found, truth) <= FLOAT64


def test_the_renames_cover_what_transformers_saves(pair: Any) -> None:
    from safetensors import safe_open

    with safe_open(pair.folder / "model.safetensors", "pt") as file:
        saved = set(file.keys())
    assert saved == rename(parameters(pair), saved_by_5).keys()


@each_layout
def test_a_head_of_its_own_is_honoured(
    pair: Any, layout: Rename, tmp_path: Path
) -> None:
    tensors = parameters(pair)
    tensors[HEAD] = tensors[EMBEDDING].flip(0)
    write(tmp_path, pair, rename(tensors, layout))
    assert_same_logits(pair, tmp_path)
    tied = our_logits(pair, pair.folder)
    assert relative_error(our_logits(pair, tmp_path), tied) > FLOAT64


@each_layout
def test_a_head_alone_is_the_embedding_too(
    pair: Any, layout: Rename, tmp_path: Path
) -> None:
    tensors = parameters(pair)
    tensors[HEAD] = tensors.pop(EMBEDDING)
    write(tmp_path, pair, rename(tensors, layout))
    assert_same_logits(pair, tmp_path)


@pytest.mark.parametrize("size", ["20KB", "200KB"])
def test_shards_that_transformers_cuts_are_read(
    pair: Any, size: str, tmp_path: Path
) -> None:
    pair.theirs.save_pretrained(tmp_path, max_shard_size=size)
    assert (tmp_path / "model.safetensors.index.json").exists() == (size == "20KB")
    assert_same_logits(pair, tmp_path)


def parameters(pair: Any) -> Tensors:
    """List the tensors, the tied head left out, as transformers 5 names them."""
    tensors = dict(pair.theirs.state_dict())
    del tensors[HEAD]
    return tensors


def rename(tensors: Tensors, layout: Rename) -> Tensors:
    """Give every tensor the layout's name."""
    return {layout(name): x for name, x in tensors.items()}


def write(folder: Path, pair: Any, tensors: Tensors, shards: int = 1) -> None:
    """Write a checkpoint: the pair's configuration, and these tensors."""
    for name in ("config.json", "generation_config.json"):
        (folder / name).write_bytes((pair.folder / name).read_bytes())
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return
    shard_of = {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        names = sorted(tensors)[i::shards]
        save_file({k: tensors[k] for k in names}, folder / file, {"format": "pt"})
        shard_of |= dict.fromkeys(names, file)
    index = {"metadata": {}, "weight_map": shard_of}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def assert_same_logits(pair: Any, folder: Path) -> np.ndarray:
    """Compare with transformers on the same folder; its logits of the real tokens."""
    load = transformers.PaliGemmaForConditionalGeneration.from_pretrained
    theirs = load(folder, attn_implementation="eager", dtype="float32")
    with lifted():
        truth = their_logits(in_float64(theirs), pair.inputs)
    truth = truth[pair.inputs["attention_mask"] == 1]
    assert relative_error(our_logits(pair, folder), truth) <= FLOAT64
    return truth


def our_logits(pair: Any, folder: Path) -> np.ndarray:
    """Work out the logits of the real tokens in float64."""
    logits = our_model(folder, "float64").logits(**pair.inputs)
    return logits[pair.inputs["attention_mask"] == 1]
