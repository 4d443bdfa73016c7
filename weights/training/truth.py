"""True answers: from the objects of a picture to captions and detections."""

from dataclasses import dataclass

from .colours import COLOURS
from .scenes import SIZE, Box
from .shapes import KINDS
from .words import join, name

BINS = 1024


@dataclass(frozen=True)
class Fact:
    """What a question can ask of one object."""

    kind: int
    colour: int
    box: Box
    codes: tuple[int, ...] = ()  # sixteen for the mask, see `vqvae.py`


@dataclass(frozen=True)
class Question:
    """A prompt, its answer, and the task's name for the statistics."""

    task: str
    prompt: str
    answer: str


def caption(language: str, facts: list[Fact]) -> str:
    """Say what is there from left to right."""
    return join(language, [name(language, fact.colour, fact.kind) for fact in facts])


def box_tokens(box: Box) -> str:
    """Write a box as four tokens: top, left, bottom, right."""
    left, top, right, bottom = box
    bins = (min(BINS - 1, int(at / SIZE * BINS)) for at in (top, left, bottom, right))
    return "".join(f"<loc{at:04d}>" for at in bins)


Look = tuple[int | None, int]  # colour, or None for any, and kind


def label(look: Look) -> str:
    """Name what is to be detected: `red circle`, or `circle` of any colour."""
    colour, kind = look
    return KINDS[kind] if colour is None else f"{COLOURS[colour]} {KINDS[kind]}"


def mask_tokens(codes: tuple[int, ...]) -> str:
    """Write a mask's code words as sixteen tokens, row by row of a 4 × 4 grid."""
    return "".join(f"<seg{code:03d}>" for code in codes)


def detect(facts: list[Fact], looks: list[Look]) -> str:
    """Answer with boxes: in the order asked, then from left to right."""
    found = [
        f"{box_tokens(fact.box)} {label(look)}"
        for look in looks
        for fact in facts
        if fact.kind == look[1] and look[0] in {None, fact.colour}
    ]
    return " ; ".join(found)


def segment(facts: list[Fact], look: Look) -> str:
    """Answer with a box and a mask for each object, from left to right."""
    found = [
        f"{box_tokens(fact.box)}{mask_tokens(fact.codes)} {label(look)}"
        for fact in facts
        if fact.kind == look[1] and look[0] in {None, fact.colour}
    ]
    return " ; ".join(found)
