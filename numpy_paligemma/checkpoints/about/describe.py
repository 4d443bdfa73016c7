"""What a checkpoint is, as far as its files tell; no weights are read.

Sizes come from config.json, dtype, names and bytes from the headers of the weights or,
where these are not here, from their index. Whether a checkpoint is pre-trained (pt),
a mixture (mix) or fine-tuned (ft) is written in no field: its name tells, or its card.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from os.path import lexists
from pathlib import Path

from numpy_paligemma.checkpoints.about.sizes import Parameters, count_parameters
from numpy_paligemma.checkpoints.config import read_config
from numpy_paligemma.checkpoints.fields import read_json
from numpy_paligemma.checkpoints.hub import MINIATURE, bundled
from numpy_paligemma.checkpoints.names import FAMILIES
from numpy_paligemma.checkpoints.safetensors import (
    INDEX,
    SINGLE,
    list_tensors,
    read_index,
)
from numpy_paligemma.model.config import PaliGemmaConfig, TextConfig

UNKNOWN = "unknown"
# (family, depth, width) of the published decoders
SIZES = {
    ("PaliGemma 1", 18, 2048): "3B",
    ("PaliGemma 2", 26, 2304): "3B",
    ("PaliGemma 2", 42, 3584): "10B",
    ("PaliGemma 2", 46, 4608): "28B",
}
# a published name to its end: what goes on behind it is somebody's fine-tune
NAME = re.compile(r"(?:^|/|--)(paligemma2?-\d+b-(pt|mix|ft)-(?:[a-z0-9-]+-)?\d{3})$")
# how the published model cards begin to say it
CARD = (
    (re.compile(r"weights, pre-?trained with", re.IGNORECASE), "pt"),
    (re.compile(r"fine-?tuned [^.]* on a mixture of", re.IGNORECASE), "mix"),
    (re.compile(r"weights, fine-?tuned", re.IGNORECASE), "ft"),
)
CARD_BYTES = 1 << 16  # of README.md: what it says of itself stands at its top
LAYOUTS = (  # the first that fits any name
    ("model.vision_tower.vision_model.", "as transformers 4.52 to 4.57 holds them"),
    ("model.vision_tower.", "as transformers 5 holds them"),
    ("vision_tower.vision_model.", "as published"),
    ("vision_tower.", "as transformers 5 saves them"),
)


@dataclass(frozen=True, slots=True)
class Files:
    """What lies on the disk."""

    names: tuple[str, ...]
    bytes: int | None  # None where no header and no index tells
    tensors: int
    dtypes: tuple[str, ...]  # as safetensors spells them, the commonest first
    layout: str
    numbers: int | None  # None where the headers are not here
    absent: int = 0  # files that are named and not here


@dataclass(frozen=True, slots=True)
class Description:
    """What a checkpoint is."""

    model: str
    family: str
    size: str
    kind: str  # "pt", "mix", "ft", "miniature" or "unknown"
    because: str  # what tells the kind
    config: PaliGemmaConfig
    parameters: Parameters
    files: Files | None  # None where there are no weights


def describe(folder: Path, model: str) -> Description:
    """Describe a checkpoint.

    Parameters
    ----------
    folder : Path
        With `config.json` at least.
    model : str
        What the user called it: a name tells what the files do not.

    Raises
    ------
    ValueError
        If a file is broken, or the model is of another type.
    """
    c = read_config(folder)
    parameters = count_parameters(c)
    kind, because = _kind(folder, model)
    return Description(
        model=model,
        family=family_of(c.text),
        size=_size(c.text, parameters),
        kind=kind,
        because=because,
        config=c,
        parameters=parameters,
        files=_files(folder),
    )


def family_of(c: TextConfig) -> str:
    """Name the family that a decoder belongs to."""
    return FAMILIES[c.post_norms]


def kind_by_name(*names: str) -> tuple[str, str] | None:
    """Tell "pt", "mix" or "ft" by the first that is a published name, and say by which."""
    for name in names:
        if found := NAME.search(name):
            return found[2], f"its name is {found[1]}"
    return None


def _size(c: TextConfig, parameters: Parameters) -> str:
    """Name the size as the published names do, or else count."""
    published = SIZES.get((family_of(c), c.depth, c.width))
    millions = f"{parameters.total / 1e6:.3g} million parameters"
    few = f"{parameters.total:,} parameters"
    return published or (millions if parameters.total >= 10**6 else few)


def _kind(folder: Path, model: str) -> tuple[str, str]:
    """Find out what a checkpoint was trained for, and say what told it."""
    if folder.resolve() == bundled(MINIATURE).resolve():
        return MINIATURE, "it is the bundled one"
    # the hub's cache: models--google--paligemma-3b-pt-224/snapshots/<commit>
    if found := kind_by_name(model, *reversed(folder.resolve().parts)):
        return found
    card = folder / "README.md"
    if card.is_file():
        with card.open(encoding="utf-8", errors="replace") as file:
            text = " ".join(file.read(CARD_BYTES).split())
        for pattern, kind in CARD:
            if said := pattern.search(text):
                return kind, f"README.md says: {said[0]}"
    base = read_json(folder / "config.json").get("_name_or_path")
    if isinstance(base, str) and NAME.search(base):
        return UNKNOWN, f"saved from {base}, perhaps after fine-tuning"
    return UNKNOWN, "the files do not tell"


def _files(folder: Path) -> Files | None:
    """List the weights: from their headers, or from an index without its shards."""
    index = folder / INDEX
    if lexists(index) and (listed := _indexed(index)).absent:
        return listed
    if not lexists(index) and not lexists(folder / SINGLE):
        return None
    tensors = list_tensors(folder)
    dtypes = Counter[str]()
    for tensor in tensors:
        dtypes[tensor.dtype] += tensor.nbytes
    return Files(
        names=tuple(sorted({tensor.path.name for tensor in tensors})),
        bytes=sum(path.stat().st_size for path in {tensor.path for tensor in tensors}),
        tensors=len(tensors),
        dtypes=tuple(name for name, _ in dtypes.most_common()),
        layout=_layout(tensor.name for tensor in tensors),
        numbers=sum(math.prod(tensor.shape) for tensor in tensors),
    )


def _indexed(path: Path) -> Files:
    """Tell what an index says of shards that are elsewhere."""
    shard_of = read_index(path)
    metadata = read_json(path).get("metadata")
    size = metadata.get("total_size") if isinstance(metadata, dict) else None
    names = tuple(sorted({*shard_of.values()}))
    absent = sum(not lexists(path.parent / name) for name in names)
    known = size if isinstance(size, int) else None
    return Files(names, known, len(shard_of), (), _layout(shard_of), None, absent)


def _layout(names: Iterable[str]) -> str:
    """Say whose names the tensors have."""
    names = list(names)
    for beginning, whose in LAYOUTS:
        if any(name.startswith(beginning) for name in names):
            head = any(name.endswith("lm_head.weight") for name in names)
            return whose + (", with a head" if head else "")
    return UNKNOWN
