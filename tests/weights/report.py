"""What a run on a real checkpoint found, as a block of text for an issue."""

import hashlib
import os
import platform
import re
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import pytest

from numpy_paligemma.checkpoints.listing import published_tensors
from numpy_paligemma.checkpoints.safetensors import PLAIN_NAMES

LIBRARIES = (
    "numpy-paligemma",
    "numpy",
    "torch",
    "transformers",
    "safetensors",
    "pillow",
)
CHUNK = 1 << 24  # bytes hashed at a time


@dataclass
class Answer:
    """One picture and prompt: the taps' errors and both texts."""

    picture: str
    prompt: str
    errors: dict[str, float]
    ours: str
    theirs: str
    seconds: float


@dataclass
class Report:
    """One checkpoint: what it is, and what was found."""

    name: str
    folder: Path
    dtype: str  # transformers'
    held: str  # our matrices', as the files have them
    tolerance: float
    processor: str = "not compared"
    answers: list[Answer] = field(default_factory=list)

    def text(self) -> str:
        """Write it all, tables in Markdown."""
        lines = [
            f"checkpoint    {self.name}",
            *(f"file          {line}" for line in self._files()),
            f"versions      {_versions()}",
            f"machine       {platform.platform()}, {os.cpu_count()} cores",
            f"transformers  {self.dtype}, eager",
            f"ours          float32, matrices held in {self.held} as in the files",
            f"processors    {self.processor}",
            "",
            f"Largest relative error, all pictures (tolerance {self.tolerance:.0e}):",
            "",
            *self._table_of_errors(),
            "",
            *self._table_of_answers(),
        ]
        return "\n".join(lines)

    def _files(self) -> list[str]:
        """Name the files that decide, with size and hash."""
        names = ("config.json", "tokenizer.model")
        paths = [p for n in names if (p := self.folder / n).is_file()]
        paths += sorted(self.folder.glob("*.safetensors"))
        return [f"{p.name} {p.stat().st_size:,} bytes {_sha256(p)}" for p in paths]

    def _table_of_errors(self) -> list[str]:
        """Write one row a stage of the model, the worst tap of its blocks named."""
        worst: dict[str, tuple[float, str]] = {}
        for answer in self.answers:
            for tap, error in answer.errors.items():
                stage = re.sub(r"block\d+/.*", "blocks", tap)
                worst[stage] = max(worst.get(stage, (-1.0, "")), (error, tap))
        rows = [f"| {s} | {e:.1e} | {tap} |" for s, (e, tap) in worst.items()]
        return ["| stage | error | at |", "|---|---|---|", *rows]

    def _table_of_answers(self) -> list[str]:
        """Write one row a picture."""
        rows = [
            f"| {a.picture} | `{a.prompt}` | {max(a.errors.values(), default=0):.1e} "
            f"| {a.ours!r} | {'equal' if a.ours == a.theirs else repr(a.theirs)} "
            f"| {a.seconds:.0f} s |"
            for a in self.answers
        ]
        head = "| picture | prompt | worst tap | ours, greedy | theirs | time |"
        return [head, "|---|---|---|---|---|---|", *rows]


REPORT = pytest.StashKey[Report]()


def dtype_of(folder: Path) -> str:
    """Name the dtype that holds a checkpoint's numbers to the last bit."""
    dtypes = {PLAIN_NAMES[t.dtype] for t in published_tensors(folder).values()}
    return dtypes.pop() if len(dtypes) == 1 else "float32"


def _versions() -> str:
    """List what the numbers come from."""
    libraries = (f"{name} {version(name)}" for name in LIBRARIES)
    return ", ".join([f"Python {platform.python_version()}", *libraries])


def _sha256(path: Path) -> str:
    """Hash a file that may be larger than memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
