"""A LoRA adapter: what it changes, each matrix by its two factors.

    W' = W + s · B · A

A (r, in) and B (out, r) are the factors of one matrix's change, s is alpha/r, or alpha/√r
where the adapter is rank-stabilised.

References
----------
Hu et al. (2021), https://arxiv.org/abs/2106.09685, section 4.1; peft,
``tuners/lora/layer.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from numpy_paligemma.checkpoints.lora.config import LoraConfig, read_lora_config
from numpy_paligemma.checkpoints.lora.tensors import (
    BIAS,
    LINEAR,
    LOOKED_UP,
    MAGNITUDE,
    Parts,
    SortedTensors,
)
from numpy_paligemma.checkpoints.safetensors import StoredTensor
from numpy_paligemma.checkpoints.typed import typed_path

FILE = "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class Update:
    """What is added to one matrix; the factors' axes as in the file."""

    a: StoredTensor  # (r, in); of an embedding (r, V)
    b: StoredTensor  # (out, r); of an embedding (D, r)
    looked_up: bool  # an embedding, whose change is (B · A)ᵀ
    rank: int
    scale: float
    magnitude: StoredTensor | None  # (out,), where rows are scaled to a learned length


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter's tensors by the published name of what they change."""

    folder: Path
    config: LoraConfig
    updates: Mapping[str, Update]  # matrices
    biases: Mapping[str, tuple[StoredTensor, float]]  # added, and times what
    replaced: Mapping[str, StoredTensor]  # tensors that are there whole
    bases: Mapping[str, StoredTensor]  # the embedding or head that was trained on
    modules: Mapping[str, str]  # how the file calls the modules of the updates


def read_adapter(adapter: str | PathLike[str]) -> Adapter:
    """Read an adapter's config and list its tensors.

    Parameters
    ----------
    adapter : str or path
        A folder with `adapter_config.json` and `adapter_model.safetensors`.

    Raises
    ------
    ValueError
        If a file is missing or broken, the kind of adapter is another, or there is a
        tensor that the config does not account for: all in one line.
    """
    if adapter == "":
        msg = "adapter: expected a folder with adapter_config.json, came an empty name"
        raise ValueError(msg)
    folder = typed_path(adapter)
    if not folder.is_dir():
        msg = (
            f"{folder}: no such folder; expected an adapter's, with adapter_config.json"
        )
        raise ValueError(msg)
    config = read_lora_config(folder)
    path = folder / FILE
    if not path.is_file():
        pickled = (folder / "adapter_model.bin").is_file()
        found = "adapter_model.bin, a pickle, which may run code" if pickled else "none"
        msg = f"{folder}: expected {FILE}, found {found}; save it anew with peft"
        raise ValueError(msg)
    tensors = SortedTensors(path, config)
    updates = {name: _update(name, tensors) for name in tensors.factors}
    biases = {
        f"{name.removesuffix('weight')}bias": (parts[BIAS], updates[name].scale)
        for name, parts in tensors.factors.items()
        if BIAS in parts
    }
    whole, bases = tensors.whole, tensors.bases
    return Adapter(folder, config, updates, biases, whole, bases, tensors.module)


def _update(name: str, tensors: SortedTensors) -> Update:
    """Pair the factors of a matrix."""
    parts: Parts = tensors.factors[name]
    looked_up = LOOKED_UP[0] in parts
    a, b = (parts[key] for key in (LOOKED_UP if looked_up else LINEAR))
    rank = a.shape[0]
    scale = tensors.config.scale(tensors.module[name], rank)
    return Update(a, b, looked_up, rank, scale, parts.get(MAGNITUDE))
