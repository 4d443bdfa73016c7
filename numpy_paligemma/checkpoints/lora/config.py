"""`adapter_config.json` of a LoRA adapter: what of it changes the arithmetic.

A field that is set and not named here asks for a kind of adapter that this is not, and
is refused by its name. Field by field after peft, ``tuners/lora/config.py``.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy_paligemma.checkpoints.fields import Section, read_json, shorten

FILE = "adapter_config.json"
HONOURED = {
    *("peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
    *("modules_to_save", "bias", "lora_bias", "use_dora", "init_lora_weights"),
    "base_model_name_or_path",
}
# of training, of where it came from, or of a kind that another field switches on
WITHOUT_EFFECT = {
    *("task_type", "auto_mapping", "peft_version", "revision", "inference_mode"),
    *("lora_dropout", "megatron_core", "qalora_group_size", "runtime_config"),
    *("eva_config", "corda_config", "lora_ga_config"),
}
# how A and B began; other ways changed the base as well, and by what no file tells
BEGINNINGS = {None, True, False, "gaussian", "eva", "orthogonal", "mica"}


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """How the low-rank factors of an adapter are to be understood."""

    base: str | None  # the checkpoint that it was trained on, as somebody called it
    rank: int
    alpha: float
    rank_pattern: Mapping[str, float]
    alpha_pattern: Mapping[str, float]
    by_root: bool  # rank-stabilised: alpha is divided by √r
    targets: tuple[str, ...]  # modules by the end of their path
    expression: str | None  # or by one that the whole path matches
    everywhere: bool  # all modules that a target names have factors
    saved: tuple[str, ...]  # modules that are there whole, by the end of their path
    bias: str
    lora_bias: bool
    dora: bool

    def rank_of(self, module: str) -> float:
        """Look up the rank that a module should have."""
        return _by_pattern(self.rank_pattern, module, self.rank)

    def scale(self, module: str, rank: int) -> float:
        """Work out what B·A is multiplied by: alpha/r, or alpha/√r."""
        alpha = _by_pattern(self.alpha_pattern, module, self.alpha)
        return alpha / (math.sqrt(rank) if self.by_root else rank)


def read_lora_config(folder: Path) -> LoraConfig:
    """Read the file.

    Raises
    ------
    ValueError
        If it is missing or broken, or asks for what is not done here.
    """
    path = folder / FILE
    fields = Section(f"{path}: ", read_json(path, "an adapter's"))
    _refuse_other_kinds(fields)
    values = fields.values
    targets = values.get("target_modules")
    expression = targets if isinstance(targets, str) else None
    if expression is not None:
        _require_expression(fields, "target_modules", expression)
    narrowed = ("exclude_modules", "layers_to_transform", "layers_pattern")
    return LoraConfig(
        base=_base(fields),
        rank=fields.count("r"),
        alpha=fields.number("lora_alpha"),
        rank_pattern=_pattern(fields, "rank_pattern"),
        alpha_pattern=_pattern(fields, "alpha_pattern"),
        by_root=values.get("use_rslora") is True,
        targets=_names(fields, "target_modules") if expression is None else (),
        expression=expression,
        everywhere=not any(values.get(name) for name in narrowed),
        saved=_names(fields, "modules_to_save"),
        bias=values.get("bias", "none"),
        lora_bias=values.get("lora_bias") is True,
        dora=values.get("use_dora") is True,
    )


def _refuse_other_kinds(fields: Section) -> None:
    """Refuse what would load and then be merged wrongly."""
    known: dict[str, set[Any]] = {
        "peft_type": {"LORA"},
        "bias": {"none", "all", "lora_only", None},
        "init_lora_weights": BEGINNINGS,
        "use_rslora": {True, False, None},
        "use_dora": {True, False, None},
        "lora_bias": {True, False, None},
    }
    values = fields.values
    for name, allowed in known.items():
        wanted = sorted(json.dumps(x) for x in allowed)  # in Python 1 would be True
        if json.dumps(values.get(name)) not in wanted:
            raise fields.refusal(name, f"one of {', '.join(wanted)}", values.get(name))
    others = values.keys() - HONOURED - WITHOUT_EFFECT
    asked = sorted(name for name in others if values[name])
    if asked:
        said = ", ".join(f"{name} {shorten(values[name])}" for name in asked)
        msg = (
            f"{fields.where}expected a plain LoRA adapter, found {said}, which is not "
        )
        raise ValueError(msg + "done; merge it into the base with peft")


def _base(fields: Section) -> str | None:
    """Read what the base was called."""
    name = "base_model_name_or_path"
    value = fields.values.get(name)
    if value is not None and not isinstance(value, str):
        raise fields.refusal(name, "a name", value)
    return value


def _pattern(fields: Section, name: str) -> dict[str, float]:
    """Read numbers by module or by regular expression."""
    value = fields.values.get(name) or {}
    if not isinstance(value, dict):
        raise fields.refusal(name, "an object", value)
    for key in value:
        _require_expression(fields, name, key)
    numbers = Section(f"{fields.where}{name}: ", value)
    return {key: numbers.number(key) for key in value}


def _require_expression(fields: Section, name: str, text: str) -> None:
    """Refuse what is no regular expression, as every name is one."""
    try:
        re.compile(text)
    except re.error as error:
        wanted = f"names or expressions, and not one with {error}"
        raise fields.refusal(name, wanted, text) from error


def _names(fields: Section, name: str) -> tuple[str, ...]:
    """Read a list of names."""
    value = fields.values.get(name) or []
    if not isinstance(value, list) or not all(isinstance(x, str) for x in value):
        raise fields.refusal(name, "a list of names", value)
    return tuple(value)


def _by_pattern(pattern: Mapping[str, float], module: str, default: float) -> float:
    """Take the first entry that fits the end of a module's path, as peft does."""
    fits = (x for key, x in pattern.items() if re.match(rf"(.*\.)?({key})$", module))
    return next(fits, default)


def fits(target: str, module: str) -> bool:
    """Say whether a target names a module: whole, or by the end of its path."""
    return module == target or module.endswith(f".{target}")
