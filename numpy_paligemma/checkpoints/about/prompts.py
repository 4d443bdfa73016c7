"""The prompts that a checkpoint understands, each with an example.

Published checkpoints: what their pages and papers name. A checkpoint with a table
``| prompt | answer |`` in its card, as the miniature has, speaks for itself.
"""

import re
from dataclasses import dataclass
from pathlib import Path

HEADING = re.compile(r"^\| *prompt *\| *answer *\|$")
CODE = re.compile(r"`([^`]+)`")
CELLS = re.compile(r"^\| *(.+?) *\| *(.+?) *\|$")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What may be asked, and what comes."""

    prompt: str
    answer: str


MIX = (
    Prompt("caption en", "a short caption; also in 34 other languages: caption es"),
    Prompt("describe en", "a longer caption (PaliGemma 2)"),
    Prompt("ocr", "the text in the picture, line by line"),
    Prompt("answer en where is the cow standing?", "a word or two: beach"),
    Prompt("What is on the flower?", "free questions: bee"),
    Prompt("detect car ; person", "<loc0051><loc0309><loc0708><loc0646> car ; …"),
    Prompt("segment car", "four <loc>, sixteen <seg>, then the name"),
)
PRETRAINED = (
    Prompt("cap en", "raw text as it stands beside pictures on the web"),
    Prompt("caption en", "a short caption; also in 34 other languages: caption es"),
    Prompt("ocr", "the text in the picture, line by line"),
    Prompt("answer en where is the cow standing?", "a word or two: beach"),
    Prompt("question en beach", "a question that has this answer"),
    Prompt("detect car ; person", "<loc0051><loc0309><loc0708><loc0646> car ; …"),
    Prompt("segment car", "four <loc>, sixteen <seg>, then the name"),
)

PRETRAINING_TASKS = (
    *("cap", "caption", "describe", "ocr"),
    *("answer", "question", "detect", "segment"),
)


def prompts_of(folder: Path, kind: str) -> tuple[Prompt, ...]:
    """List the prompts of a checkpoint: its card's own, or those of its kind.

    Parameters
    ----------
    folder : Path
    kind : str
        As `numpy_paligemma.checkpoints.about.describe` finds it; what is unknown is taken
        for a mix model.
    """
    card = folder / "README.md"
    own = _table(card.read_text("utf-8", "replace")) if card.is_file() else ()
    return own or (PRETRAINED if kind == "pt" else MIX)


def _table(card: str) -> tuple[Prompt, ...]:
    """Read the rows of the card's table of prompts, without their marks of code."""
    lines = iter(card.splitlines())
    rows: list[Prompt] = []
    if not any(HEADING.match(line) for line in lines):
        return ()
    next(lines, None)  # the rule below the heading
    for line in lines:
        cells = CELLS.match(line)
        if cells is None:
            break
        rows.append(Prompt(*map(_plain, cells.groups())))
    return tuple(rows)


def _plain(cell: str) -> str:
    """Take off the marks of code; what begins with a space is quoted instead."""
    return CODE.sub(lambda x: f'"{x[1]}"' if x[1].startswith(" ") else x[1], cell)
