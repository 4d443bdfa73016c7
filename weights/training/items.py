"""What is asked in the evaluation: fresh pictures, those by other hands, the samples."""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from .elsewhere import draw_elsewhere
from .painting import Scene, draw_scene
from .questions import (
    MIXES,
    Asker,
    ask_detect,
    ask_foreign_caption,
    ask_segment,
    ask_segment_kind,
)
from .truth import BINS, Fact, Question, label

SAMPLES = Path(__file__).parents[1] / "samples"
SEVERAL: dict[Asker, int] = {ask_detect: 3, ask_foreign_caption: 4}
MASK_ASKERS = (ask_segment, ask_segment, ask_segment_kind)


@dataclass(frozen=True)
class Item:
    """One thing to ask of one picture."""

    image: Image.Image
    question: Question
    painted: list[np.ndarray] = field(default_factory=list)  # objects asked for


def items_about(
    rng: random.Random, image: Image.Image, facts: list[Fact], digits: str
) -> list[Item]:
    """Ask a picture everything once or several times, no prompt twice."""
    asked: dict[str, Item] = {}
    for asker in MIXES["everything"]:
        for _ in range(SEVERAL.get(asker, 1)):
            question = asker(rng, facts, digits)
            if question is not None:
                asked[question.prompt] = Item(image, question)
    return list(asked.values())


def generated(pictures: int, seed: int, wide_share: float) -> list[Item]:
    """Ask about fresh pictures of the training generator, with seeds of their own."""
    rng, items = random.Random(seed), []
    for i in range(pictures):
        scene = draw_scene(np.random.default_rng((seed, i)), wide_share)
        digits = "".join(thing.digits for thing in scene.things)
        image = Image.fromarray(scene.picture)
        items += items_about(rng, image, facts_of(scene), digits)
    return items


def facts_of(scene: Scene) -> list[Fact]:
    """Note what can be asked of a scene."""
    looks = zip(scene.things, scene.boxes, strict=True)
    return [Fact(thing.kind, thing.colour, box) for thing, box in looks]


def with_masks(pictures: int, seed: int, wide_share: float) -> list[Item]:
    """Ask fresh pictures for masks; keep what was painted of the objects asked for."""
    rng, items = random.Random(seed), []
    for i in range(pictures):
        scene = draw_scene(np.random.default_rng((seed, i)), wide_share)
        image, facts = Image.fromarray(scene.picture), facts_of(scene)
        asked = (asker(rng, facts, "") for asker in MASK_ASKERS)
        for question in {q.prompt: q for q in asked if q is not None}.values():
            painted = [
                covered
                for fact, covered in zip(facts, scene.covered, strict=True)
                if question.prompt.removeprefix("segment ")
                in {label((fact.colour, fact.kind)), label((None, fact.kind))}
            ]
            items.append(Item(image, question, painted))
    return items


def drawn_elsewhere(pictures: int, seed: int) -> list[Item]:
    """Ask about pictures drawn by other code."""
    rng = random.Random(seed)
    pages = (draw_elsewhere(rng) for _ in range(pictures))
    return [item for page in pages for item in items_about(rng, *page)]


def samples() -> Iterator[tuple[str, Item]]:
    """Ask the sample pictures what `answers.json` knows."""
    truth = json.loads((SAMPLES / "answers.json").read_text(encoding="utf-8"))
    for name, known in truth.items():
        image = Image.open(SAMPLES / name)
        for prompt, answer in known["texts"].items():
            yield name, Item(image, Question("sample", prompt, answer))
        for prompt, boxes in known["boxes"].items():
            label = prompt.removeprefix("detect ")
            answer = " ; ".join(
                f"{tokens(box, known['size'])} {label}" for box in boxes
            )
            yield name, Item(image, Question("detect", prompt, answer))


def tokens(box: list[float], size: list[int]) -> str:
    """Write a box in a picture's pixels as location tokens."""
    left, top, right, bottom = box
    width, height = size
    shares = (top / height, left / width, bottom / height, right / width)
    return "".join(f"<loc{min(BINS - 1, int(at * BINS)):04d}>" for at in shares)


SETS: dict[str, Callable[[int], list[Item]]] = {
    "plain": lambda most: generated(most, 901, wide_share=0),
    "wide": lambda most: generated(most, 902, wide_share=1),
    "elsewhere": lambda most: drawn_elsewhere(min(200, most), 903),
    "samples": lambda _: [item for _, item in samples()],
    "plain masks": lambda most: with_masks(min(300, most), 904, wide_share=0),
    "wide masks": lambda most: with_masks(min(300, most), 905, wide_share=1),
}


def items_of(name: str, pictures: int) -> list[Item]:
    """Make one set of questions, about so many pictures at most."""
    return SETS[name](pictures)
