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

from numpy_paligemma.checkpoints.fields import read_json

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
    fields = read_json(path, "an adapter's")
    _refuse_other_kinds(path, fields)
    targets = fields.get("target_modules")
    expression = targets if isinstance(targets, str) else None
    if expression is not None:
        _require_expression(path, "target_modules", expression)
    narrowed = ("exclude_modules", "layers_to_transform", "layers_pattern")
    return LoraConfig(
        base=_base(path, fields.get("base_model_name_or_path")),
        rank=_rank(path, fields.get("r")),
        alpha=_number(path, "lora_alpha", fields.get("lora_alpha")),
        rank_pattern=_pattern(path, "rank_pattern", fields),
        alpha_pattern=_pattern(path, "alpha_pattern", fields),
        by_root=fields.get("use_rslora") is True,
        targets=_names(path, "target_modules", fields) if expression is None else (),
        expression=expression,
        everywhere=not any(fields.get(name) for name in narrowed),
        saved=_names(path, "modules_to_save", fields),
        bias=fields.get("bias", "none"),
        lora_bias=fields.get("lora_bias") is True,
        dora=fields.get("use_dora") is True,
    )


def _refuse_other_kinds(path: Path, fields: Mapping[str, Any]) -> None:
    """Refuse what would load and then be merged wrongly."""
    known: dict[str, set[Any]] = {
        "peft_type": {"LORA"},
        "bias": {"none", "all", "lora_only", None},
        "init_lora_weights": BEGINNINGS,
        "use_rslora": {True, False, None},
        "use_dora": {True, False, None},
        "lora_bias": {True, False, None},
    }
    for name, allowed in known.items():
        value = fields.get(name)
        if isinstance(value, (list, dict)) or value not in allowed:
            wanted = ", ".join(sorted(json.dumps(x) for x in allowed))
            msg = f"{path}: {name}: expected one of {wanted}, found {json.dumps(value)}"
            raise ValueError(msg)
    others = fields.keys() - HONOURED - WITHOUT_EFFECT
    asked = sorted(name for name in others if fields[name])
    if asked:
        said = ", ".join(f"{name} {json.dumps(fields[name])[:60]}" for name in asked)
        msg = (
            f"{path}: expected a plain LoRA adapter, found {said}, which is not done; "
        )
        raise ValueError(msg + "merge it into the base with peft")


def _base(path: Path, value: object) -> str | None:
    """Read what the base was called."""
    if value is not None and not isinstance(value, str):
        msg = f"{path}: base_model_name_or_path: expected a name, found {value!r}"
        raise ValueError(msg)
    return value


def _rank(path: Path, value: object) -> int:
    """Read a whole number above nought."""
    if type(value) is int and 0 < value < 2**31:
        return value
    msg = f"{path}: r: expected a whole number above 0, found {json.dumps(value)}"
    raise ValueError(msg)


def _number(path: Path, name: str, value: object) -> float:
    """Read a number above nought."""
    if type(value) in {int, float} and 0 < value < 2**31:  # type: ignore[operator]
        return float(value)  # type: ignore[arg-type]
    msg = f"{path}: {name}: expected a number above 0, found {json.dumps(value)}"
    raise ValueError(msg)


def _pattern(path: Path, name: str, fields: Mapping[str, Any]) -> dict[str, float]:
    """Read numbers by module or by regular expression."""
    value = fields.get(name) or {}
    if not isinstance(value, dict):
        msg = f"{path}: {name}: expected an object, found {json.dumps(value)}"
        raise ValueError(msg)  # noqa: TRY004  the file is wrong, not the caller
    for key in value:
        _require_expression(path, name, key)
    return {key: _number(path, f"{name}: {key}", x) for key, x in value.items()}


def _require_expression(path: Path, name: str, text: str) -> None:
    """Refuse what is no regular expression, as every name is one."""
    try:
        re.compile(text)
    except re.error as error:
        msg = f"{path}: {name}: expected names or expressions, {text!r} is neither: "
        raise ValueError(msg + str(error)) from error


def _names(path: Path, name: str, fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Read a list of names."""
    value = fields.get(name) or []
    if not isinstance(value, list) or not all(isinstance(x, str) for x in value):
        msg = f"{path}: {name}: expected a list of names, found {json.dumps(value)}"
        raise ValueError(msg)
    return tuple(value)


def _by_pattern(pattern: Mapping[str, float], module: str, default: float) -> float:
    """Take the first entry that fits the end of a module's path, as peft does."""
    fits = (x for key, x in pattern.items() if re.match(rf"(.*\.)?({key})$", module))
    return next(fits, default)


def fits(target: str, module: str) -> bool:
    """Say whether a target names a module: whole, or by the end of its path."""
    return module == target or module.endswith(f".{target}")
