"""A LoRA adapter merged here gives the logits that peft gets with it kept apart."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tolerances import FLOAT64, relative_error

peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

import torch
from lifting import lifted
from random_models import GEMMA_2_MODELS, MODELS, RandomModel
from safetensors.torch import load_file, save_file
from their_taps import their_logits

from numpy_paligemma.checkpoints.config import read_config
from numpy_paligemma.checkpoints.load import load_weights
from numpy_paligemma.checkpoints.lora.adapter import read_adapter
from numpy_paligemma.checkpoints.lora.merge import Change
from numpy_paligemma.paligemma import PaliGemma

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning"),
]

Options = dict[str, Any]
TEXT = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ONE, TWO = MODELS[2], GEMMA_2_MODELS[1]

CASES: dict[str, tuple[RandomModel, Options]] = {
    "the usual recipe": (ONE, {"r": 4, "lora_alpha": 8, "target_modules": TEXT}),
    "PaliGemma 2": (TWO, {"r": 3, "lora_alpha": 7, "target_modules": TEXT}),
    "every linear map": (ONE, {"r": 2, "target_modules": "all-linear"}),
    "rank-stabilised": (
        ONE,
        {"r": 6, "lora_alpha": 5, "use_rslora": True, "target_modules": ["q_proj"]},
    ),
    "ranks and alphas by pattern": (
        ONE,
        {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ["q_proj", "v_proj", "fc1"],
            "rank_pattern": {"v_proj": 2, r".*layers\.1\.self_attn\.q_proj": 1},
            "alpha_pattern": {"layers.0.self_attn.v_proj": 3, "fc1": 20, "v_proj": 9},
        },
    ),
    "an expression": (
        ONE,
        {"r": 2, "target_modules": r".*language_model.*\.(o_proj|up_proj)"},
    ),
    "one layer": (
        ONE,
        {"r": 2, "target_modules": ["o_proj", "fc2"], "layers_to_transform": [1]},
    ),
    "all but some": (
        ONE,
        {"r": 2, "target_modules": ["q_proj"], "exclude_modules": r".*vision.*"},
    ),
    "magnitudes": (ONE, {"r": 3, "use_dora": True, "target_modules": [*TEXT, "fc1"]}),
    "magnitudes, rank-stabilised": (
        TWO,
        {"r": 2, "use_dora": True, "use_rslora": True, "target_modules": ["down_proj"]},
    ),
    "biases of targets": (
        ONE,
        {"r": 2, "target_modules": ["q_proj", "fc1"], "bias": "lora_only"},
    ),
    "every bias": (ONE, {"r": 2, "target_modules": ["o_proj"], "bias": "all"}),
    "a bias of B": (
        ONE,
        {"r": 2, "target_modules": ["fc1", "linear"], "lora_bias": True},
    ),
    "modules whole": (
        ONE,
        {
            "r": 2,
            "target_modules": ["q_proj"],
            "modules_to_save": ["multi_modal_projector", "post_layernorm"],
        },
    ),
    "a new embedding": (
        ONE,
        {"r": 2, "target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    ),
    "a new head": (
        TWO,
        {"r": 2, "target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    ),
    "the embedding": (ONE, {"r": 2, "target_modules": ["embed_tokens", "k_proj"]}),
    "the head": (TWO, {"r": 2, "target_modules": ["lm_head"]}),
    "patches and positions": (
        ONE,
        {"r": 2, "target_modules": ["patch_embedding", "position_embedding"]},
    ),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Trained:
    """An adapter in its folder, and what peft says with it."""

    pair: Any
    folder: Path
    logits: np.ndarray


def train(pair: Any, folder: Path, options: Options) -> Trained:
    """Put random numbers into an adapter, save it, and ask the whole model."""
    torch.manual_seed(5)
    config = peft.LoraConfig(**options)
    adapted = peft.get_peft_model(copy.deepcopy(pair.theirs), config)
    with torch.no_grad():
        for name, p in adapted.named_parameters():
            if p.requires_grad:
                draw(name, p)
    adapted.save_pretrained(folder)
    adapted.double().eval()
    for module in adapted.modules():  # peft takes √D from the buffer, once rounded
        if hasattr(module, "scalar_embed_scale"):
            module.embed_scale.fill_(module.scalar_embed_scale)
    with lifted():
        logits = their_logits(adapted, pair.inputs)
    return Trained(pair, folder, logits[pair.inputs["attention_mask"] == 1])


def draw(name: str, p: torch.Tensor) -> None:
    """Train a parameter, so to speak."""
    if "magnitude" in name:
        p.mul_(torch.empty_like(p).uniform_(0.5, 2))
    else:
        p.add_(torch.empty_like(p).normal_(0, 0.3))


def ours(
    trained: Trained, folder: Path | None = None
) -> tuple[np.ndarray, list[Change]]:
    """Merge the adapter into the pair's folder, all in float64."""
    config = read_config(trained.pair.folder)
    changes: list[Change] = []
    adapter = read_adapter(folder or trained.folder)
    weights = load_weights(trained.pair.folder, config, "float64", adapter, changes)
    logits = PaliGemma(config, weights).logits(**trained.pair.inputs)
    return logits[trained.pair.inputs["attention_mask"] == 1], changes


@pytest.mark.parametrize("case", CASES)
def test_merged_logits_are_pefts(make_pair: Any, tmp_path: Path, case: str) -> None:
    model, options = CASES[case]
    trained = train(make_pair(model), tmp_path, options)
    logits, changes = ours(trained)
    assert relative_error(logits, trained.logits) <= FLOAT64
    assert changes
    assert all(change.change > 0 for change in changes)
    base = make_pair(model).ours("float64").logits(**trained.pair.inputs)
    base = base[trained.pair.inputs["attention_mask"] == 1]
    assert relative_error(base, trained.logits) > 1e-3


@pytest.mark.parametrize("generation", ["up to 4.51", "4.52 to 4.57"])
def test_the_names_of_every_generation_give_the_same(
    make_pair: Any, tmp_path: Path, generation: str
) -> None:
    saved = tmp_path / "saved"
    options = {"target_modules": [*TEXT, "fc1"], "alpha_pattern": {"q_proj": 3}}
    trained = train(make_pair(ONE), saved, {"r": 2, **options})
    old = tmp_path / "old"
    old.mkdir()
    (old / "adapter_config.json").write_bytes(
        (saved / "adapter_config.json").read_bytes()
    )
    tensors = load_file(saved / "adapter_model.safetensors")
    renamed = {older(name, generation): x for name, x in tensors.items()}
    assert renamed.keys() != tensors.keys()
    save_file(renamed, old / "adapter_model.safetensors")
    np.testing.assert_array_equal(ours(trained, old)[0], ours(trained)[0])


def older(name: str, generation: str) -> str:
    """Rename a key of transformers 5 as an earlier one had it."""
    front = "base_model.model."
    name = name.removeprefix(front).replace(
        "model.vision_tower.", "model.vision_tower.vision_model."
    )
    if generation == "up to 4.51":
        name = name.replace("model.language_model.", "language_model.model.")
        name = name.removeprefix("model.")
    return front + name


@pytest.mark.parametrize("looked_up", [False, True], ids=["matrix", "embedding"])
def test_magnitudes_on_an_embedding_are_refused(
    make_pair: Any, tmp_path: Path, looked_up: bool
) -> None:
    target = "embed_tokens" if looked_up else "patch_embedding"
    options = {"r": 2, "use_dora": True, "target_modules": [target]}
    trained = train(make_pair(ONE), tmp_path, options)
    with pytest.raises(ValueError, match="done for plain matrices alone"):
        ours(trained)
