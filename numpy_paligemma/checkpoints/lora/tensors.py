"""A LoRA adapter's tensors, sorted by the published names of what they change.

They are named after the module's path in the library of the day, behind
``base_model.model.``; the rules that the checkpoints need anyway make published names
of those. Which part of a module a tensor is comes last. Source: peft,
``utils/save_and_load.py``.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from numpy_paligemma.checkpoints.faults import told
from numpy_paligemma.checkpoints.lora.config import LoraConfig, fits
from numpy_paligemma.checkpoints.names import EMBEDDING, HEAD, canonical_name
from numpy_paligemma.checkpoints.safetensors import DTYPES, StoredTensor, list_file

KEY = re.compile(
    r"base_model\.model\.(?P<module>.+?)\.(?P<part>lora_[AB]\.weight|lora_B\.bias|"
    r"lora_embedding_[AB]|lora_magnitude_vector|(base_layer\.)?(weight|bias))"
)
LINEAR = ("lora_A.weight", "lora_B.weight")
LOOKED_UP = ("lora_embedding_A", "lora_embedding_B")
MAGNITUDE, BIAS = "lora_magnitude_vector", "lora_B.bias"

Parts = dict[str, StoredTensor]


class SortedTensors:
    """The tensors of an adapter's file.

    Parameters
    ----------
    path : Path
        Of the safetensors file.
    config : LoraConfig

    Raises
    ------
    ValueError
        If the file is broken, or holds less than its config says, or more: all of it in
        one line.
    """

    def __init__(self, path: Path, config: LoraConfig) -> None:
        self.config = config
        self.factors: dict[str, Parts] = {}  # by the matrix's published name
        self.module: dict[str, str] = {}  # its path in the file, for the patterns
        self.whole: Parts = {}
        self.saved: list[str] = []  # paths of what is there whole
        self.bases: Parts = {}  # the embedding or head that was trained on
        self.unexpected: list[str] = []
        self.twice: list[str] = []
        listed = list_file(path)
        for tensor in listed:
            self._put(tensor)
        faults = {
            "unexpected": self.unexpected,
            "there more than once, under names that mean the same": self.twice,
            f"of another dtype than {', '.join(DTYPES)}": [
                f"{t.name} is {t.dtype}" for t in listed if t.dtype not in DTYPES
            ],
            "not of the parts that the config asks for": list(self._broken()),
            "of another rank": list(self._of_another_rank()),
            "named as targets and without factors": [
                name
                for name in config.targets
                if not any(fits(name, module) for module in self.module.values())
            ],
            "named in modules_to_save and not there": [
                name
                for name in config.saved
                if not any(f".{name}." in f".{module}." for module in self.saved)
            ],
        }
        if any(faults.values()) or not self.factors:
            msg = f"{path}: not the tensors that adapter_config.json asks for: "
            raise ValueError(msg + (told(faults) or "no lora_A and lora_B"))

    def _put(self, tensor: StoredTensor) -> None:
        """Sort one tensor in."""
        key = KEY.fullmatch(tensor.name)
        module, part = (key["module"], key["part"]) if key else ("", "")
        kind = "bias" if part in {"bias", "base_layer.bias"} else "weight"
        name = canonical_name(f"{module}.{kind}")
        if part.startswith("lora"):
            self.module[name] = module
            place, at = self.factors.setdefault(name, {}), part
        elif part == "base_layer.weight" and name in {EMBEDDING, HEAD}:
            place, at = self.bases, name
        elif self._is_declared(module, part):
            self.saved.append(module)
            place, at = self.whole, name
        else:
            self.unexpected.append(tensor.name)
            return
        if at in place:
            self.twice.append(tensor.name)
        place[at] = tensor

    def _is_declared(self, module: str, part: str) -> bool:
        """Say whether the config lets a whole tensor be here."""
        biases = {"bias": ["all"], "base_layer.bias": ["all", "lora_only"]}
        is_saved = any(f".{name}." in f".{module}." for name in self.config.saved)
        return is_saved or self.config.bias in biases.get(part, [])

    def _broken(self) -> Iterator[str]:
        """Find modules of which a part lacks, or has no business there."""
        c = self.config
        extras = {name for name, on in [(MAGNITUDE, c.dora), (BIAS, c.lora_bias)] if on}
        linear, looked_up = {*LINEAR} | extras, {*LOOKED_UP} | (extras - {BIAS})
        for name, parts in self.factors.items():
            if parts.keys() not in (linear, looked_up):
                yield f"{name} has {', '.join(sorted(parts))}"

    def _of_another_rank(self) -> Iterator[str]:
        """Find factors whose rank is not what the config gives their module."""
        for name, parts in self.factors.items():
            rank = self.config.rank_of(self.module[name])
            for a in parts.keys() & {LINEAR[0], LOOKED_UP[0]}:
                if parts[a].shape[:1] != (rank,):
                    yield f"{name} expected {rank:g}, found {parts[a].shape}"
