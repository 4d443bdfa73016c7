"""A LoRA adapter's tensors, by the published names of what they change.

    W' = W + s · B · A

A (r, in) and B (out, r) are the factors of one matrix's change, s is alpha/r. They are
named after the module's path in the library of the day, behind ``base_model.model.``;
the rules that the checkpoints need anyway make published names of those.

References
----------
Hu et al. (2021), https://arxiv.org/abs/2106.09685, section 4.1; peft,
``tuners/lora/layer.py``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from numpy_paligemma.checkpoints.faults import told
from numpy_paligemma.checkpoints.lora_config import LoraConfig, read_lora_config
from numpy_paligemma.checkpoints.names import EMBEDDING, HEAD, canonical_name
from numpy_paligemma.checkpoints.safetensors import DTYPES, StoredTensor, list_file

FILE = "adapter_model.safetensors"
KEY = re.compile(
    r"base_model\.model\.(?P<module>.+?)\.(?P<part>lora_[AB]\.weight|lora_B\.bias|"
    r"lora_embedding_[AB]|lora_magnitude_vector|(base_layer\.)?(weight|bias))"
)
LINEAR = {"lora_A.weight", "lora_B.weight"}
LOOKED_UP = {"lora_embedding_A", "lora_embedding_B"}
MAGNITUDE, BIAS = "lora_magnitude_vector", "lora_B.bias"

Parts = dict[str, StoredTensor]


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


def read_adapter(folder: Path) -> Adapter:
    """Read an adapter's config and list its tensors.

    Parameters
    ----------
    folder : Path
        With `adapter_config.json` and `adapter_model.safetensors`.

    Raises
    ------
    ValueError
        If a file is missing or broken, the kind of adapter is another, or there is a
        tensor that the config does not account for: all in one line.
    """
    if not folder.is_dir():
        msg = f"{folder}: no such folder; expected an adapter's, with adapter_config.json"
        raise ValueError(msg)
    config = read_lora_config(folder)
    path = folder / FILE
    if not path.is_file():
        pickled = (folder / "adapter_model.bin").is_file()
        found = "adapter_model.bin, a pickle, which may run code" if pickled else "none"
        msg = f"{folder}: expected {FILE}, found {found}; save it anew with peft"
        raise ValueError(msg)
    sorted_ = _Sorted(config, list_file(path))
    sorted_.require_whole(folder)
    return Adapter(
        folder,
        config,
        updates=sorted_.updates(),
        biases=sorted_.biases(),
        replaced=sorted_.replaced,
        bases=sorted_.bases,
    )


class _Sorted:
    """The file's tensors, sorted by what they are, and what is wrong with them."""

    def __init__(self, config: LoraConfig, listed: list[StoredTensor]) -> None:
        self.config = config
        self.factors: dict[str, Parts] = {}
        self.module: dict[str, str] = {}  # its path in the file, for the patterns
        self.saved: list[str] = []  # paths of what is there whole
        self.replaced: Parts = {}
        self.bases: Parts = {}
        self.unexpected: list[str] = []
        self.twice: list[str] = []
        self.strange = [f"{t.name} is {t.dtype}" for t in listed if t.dtype not in DTYPES]
        for tensor in listed:
            self._put(tensor)

    def _put(self, tensor: StoredTensor) -> None:
        """Sort one tensor in."""
        key = KEY.fullmatch(tensor.name)
        if key is None:
            self.unexpected.append(tensor.name)
            return
        module, part = key["module"], key["part"]
        kind = "bias" if part in {"bias", "base_layer.bias"} else "weight"
        name = canonical_name(f"{module}.{kind}")
        if part.startswith("lora"):
            self.module[name] = module
            place, at = self.factors.setdefault(name, {}), part
        elif part == "base_layer.weight" and name in {EMBEDDING, HEAD}:
            place, at = self.bases, name
        elif self._is_declared(module, part):
            self.saved.append(module)
            place, at = self.replaced, name
        else:
            self.unexpected.append(tensor.name)
            return
        if at in place:
            self.twice.append(tensor.name)
        place[at] = tensor

    def _is_declared(self, module: str, part: str) -> bool:
        """Say whether the config lets a whole tensor be here."""
        paths = (rf"(^|\.){re.escape(name)}(\.|$)" for name in self.config.saved)
        is_saved = any(re.search(path, module) for path in paths)
        biases = {"bias": ["all"], "base_layer.bias": ["all", "lora_only"]}
        return is_saved or self.config.bias in biases.get(part, [])

    def require_whole(self, folder: Path) -> None:
        """Refuse a file that holds less than its config says, or more."""
        c = self.config
        extras = {name for name, on in [(MAGNITUDE, c.dora), (BIAS, c.lora_bias)] if on}
        broken = [
            f"{name} has {', '.join(sorted(parts))}"
            for name, parts in self.factors.items()
            if parts.keys() not in (LINEAR | extras, LOOKED_UP | extras - {BIAS})
        ]
        idle = [x for x in c.targets if not any(_fits(x, m) for m in self.module.values())]
        unsaved = [
            x for x in c.saved if not any(f".{x}." in f".{m}." for m in self.saved)
        ]
        ranks = [
            f"{name} expected {c.rank_of(self.module[name]):g}, found {parts[at].shape}"
            for name, parts in self.factors.items()
            for at in ("lora_A.weight", "lora_embedding_A")
            if at in parts and parts[at].shape[:1] != (c.rank_of(self.module[name]),)
        ]
        faults = {
            "unexpected": self.unexpected,
            "there more than once, under names that mean the same": self.twice,
            f"of another dtype than {', '.join(DTYPES)}": self.strange,
            "not of the parts that the config asks for": broken,
            "of another rank": ranks,
            "named as targets and without factors": idle,
            "named in modules_to_save and not there": unsaved,
        }
        if any(faults.values()) or not self.factors:
            said = told(faults) or "no lora_A and lora_B"
            msg = f"{folder / FILE}: not the tensors that adapter_config.json asks for: "
            raise ValueError(msg + said)

    def updates(self) -> dict[str, Update]:
        """Pair the factors."""
        return {name: self._update(name, parts) for name, parts in self.factors.items()}

    def _update(self, name: str, parts: Parts) -> Update:
        looked_up = LOOKED_UP <= parts.keys()
        a, b = (parts[key] for key in sorted(LOOKED_UP if looked_up else LINEAR))
        scale = self.config.scale(self.module[name], a.shape[0])
        return Update(a, b, looked_up, a.shape[0], scale, parts.get(MAGNITUDE))

    def biases(self) -> dict[str, tuple[StoredTensor, float]]:
        """List the trained biases of B; B · A goes with the same scale."""
        return {
            name.removesuffix("weight") + "bias": (parts[BIAS], self._update(name, parts).scale)
            for name, parts in self.factors.items()
            if BIAS in parts
        }


def _fits(target: str, module: str) -> bool:
    """Say whether a target names a module: whole, or by the end of its path."""
    return module == target or module.endswith(f".{target}")
