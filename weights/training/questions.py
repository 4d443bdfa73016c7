"""Every question the miniature knows, with the true answer for a picture.

All of it works on `Fact`s, the objects of one picture from left to right; the words
are English but for the captions.
"""

import random
from collections.abc import Callable

from .colours import COLOURS
from .shapes import KINDS, NUMBER
from .truth import Fact, Look, Question, caption, detect, label, segment
from .words import name

Asker = Callable[[random.Random, list[Fact], str], Question | None]


def ask_caption(_: random.Random, facts: list[Fact], __: str) -> Question:
    """`caption en`."""
    return Question("caption en", "caption en", caption("en", facts))


def ask_foreign_caption(rng: random.Random, facts: list[Fact], _: str) -> Question:
    """`caption de`, `caption fr`, `caption es`."""
    prompt = f"caption {(language := rng.choice(('de', 'fr', 'es')))}"
    return Question(prompt, prompt, caption(language, facts))


def ask_text(_: random.Random, __: list[Fact], digits: str) -> Question | None:
    """`ocr`, where there is a number."""
    return Question("ocr", "ocr", digits) if digits else None


def any_look(rng: random.Random, facts: list[Fact], absent: float) -> Look:
    """Choose an object's look, or with probability `absent` any look."""
    if rng.random() < absent:
        return rng.randrange(len(COLOURS)), rng.randrange(len(KINDS))
    fact = rng.choice(facts)
    return fact.colour, fact.kind


def ask_detect(rng: random.Random, facts: list[Fact], _: str) -> Question:
    """`detect red circle`: nothing there in about a fifth of the cases."""
    look = any_look(rng, facts, absent=0.2)
    return Question("detect", f"detect {label(look)}", detect(facts, [look]))


def ask_detect_kind(rng: random.Random, facts: list[Fact], _: str) -> Question:
    """`detect star`: of any colour."""
    look = (None, any_look(rng, facts, absent=0.15)[1])
    return Question("detect kind", f"detect {label(look)}", detect(facts, [look]))


def ask_detect_two(rng: random.Random, facts: list[Fact], _: str) -> Question | None:
    """`detect red circle ; blue star`."""
    looks = [any_look(rng, facts, absent=0.2) for _ in range(2)]
    if looks[0] == looks[1]:
        return None
    prompt = f"detect {label(looks[0])} ; {label(looks[1])}"
    return Question("detect two", prompt, detect(facts, looks))


def ask_segment(rng: random.Random, facts: list[Fact], _: str) -> Question | None:
    """`segment red circle`: mostly where one is there; never a number."""
    return ask_masks(rng, facts, any_look(rng, facts, absent=0.12))


def ask_segment_kind(rng: random.Random, facts: list[Fact], _: str) -> Question | None:
    """`segment star`: of any colour."""
    return ask_masks(rng, facts, (None, any_look(rng, facts, absent=0.08)[1]))


def ask_masks(rng: random.Random, facts: list[Fact], look: Look) -> Question | None:
    """Ask for masks; twenty tokens an object, so seldom for several."""
    alike = sum(f.kind == look[1] and look[0] in {None, f.colour} for f in facts)
    if look[1] == NUMBER or (alike > 1 and rng.random() > 1 / alike):
        return None
    task = "segment kind" if look[0] is None else "segment"
    return Question(task, f"segment {label(look)}", segment(facts, look))


def only(facts: list[Fact], kind: int) -> Fact | None:
    """Return the one object of a kind, if it is the only one."""
    alike = [fact for fact in facts if fact.kind == kind]
    return alike[0] if len(alike) == 1 else None


def ask_colour(rng: random.Random, facts: list[Fact], _: str) -> Question | None:
    """`answer en what colour is the circle?`, where exactly one is there."""
    kind = rng.choice(facts).kind
    if (fact := only(facts, kind)) is None:
        return None
    prompt = f"answer en what colour is the {KINDS[kind]}?"
    return Question("colour", prompt, COLOURS[fact.colour])


def ask_count(_: random.Random, facts: list[Fact], __: str) -> Question:
    """`answer en how many shapes are there?`: numbers do not count."""
    shapes = sum(fact.kind != NUMBER for fact in facts)
    return Question("count", "answer en how many shapes are there?", str(shapes))


def ask_count_kind(rng: random.Random, facts: list[Fact], _: str) -> Question:
    """`answer en how many circles are there?`."""
    kind = rng.randrange(NUMBER)
    if rng.random() < 0.7 and (near := rng.choice(facts).kind) != NUMBER:
        kind = near
    total = sum(fact.kind == kind for fact in facts)
    prompt = f"answer en how many {KINDS[kind]}s are there?"
    return Question("count kind", prompt, str(total))


def ask_count_colour(rng: random.Random, facts: list[Fact], _: str) -> Question:
    """`answer en how many red shapes are there?`."""
    colour = any_look(rng, facts, absent=0.3)[0]
    total = sum(fact.kind != NUMBER and fact.colour == colour for fact in facts)
    prompt = f"answer en how many {COLOURS[colour or 0]} shapes are there?"
    return Question("count colour", prompt, str(total))


def ask_whether(rng: random.Random, facts: list[Fact], _: str) -> Question:
    """`answer en is there a red circle?`; half of the "no" share colour or kind."""
    fact = rng.choice(facts)
    colour, kind = fact.colour, fact.kind
    if rng.random() < 0.55:
        change = rng.choice(("colour", "kind", "both", "both"))
        colour = colour if change == "kind" else rng.randrange(len(COLOURS))
        kind = kind if change == "colour" else rng.randrange(len(KINDS))
    there = any((fact.colour, fact.kind) == (colour, kind) for fact in facts)
    prompt = f"answer en is there a {COLOURS[colour]} {KINDS[kind]}?"
    return Question("yes/no", prompt, "yes" if there else "no")


def ask_neighbour(rng: random.Random, facts: list[Fact], _: str) -> Question | None:
    """`answer en what is left of the star?`, where exactly one is there."""
    kind, side = rng.choice(facts).kind, rng.choice(("left", "right"))
    if (fact := only(facts, kind)) is None:
        return None
    at = facts.index(fact) + (1 if side == "right" else -1)
    there = 0 <= at < len(facts)
    answer = name("en", facts[at].colour, facts[at].kind) if there else "nothing"
    prompt = f"answer en what is {side} of the {KINDS[kind]}?"
    return Question("neighbour", prompt, answer)


# how many of each to try to ask of a picture, on average
MIXES: dict[str, dict[Asker, float]] = {
    "everything": {
        ask_caption: 1,
        ask_text: 1,
        ask_count: 0.5,
        ask_detect: 3,
        ask_colour: 0.7,
        ask_count_kind: 0.6,
        ask_whether: 0.8,
        ask_foreign_caption: 0.5,
        ask_detect_kind: 0.4,
        ask_detect_two: 0.4,
        ask_neighbour: 0.5,
        ask_count_colour: 0.4,
    },
    "masks too": {
        ask_caption: 0.6,
        ask_text: 1,
        ask_count: 0.3,
        ask_detect: 2.2,
        ask_colour: 0.4,
        ask_count_kind: 0.4,
        ask_whether: 0.4,
        ask_foreign_caption: 0.3,
        ask_detect_kind: 0.3,
        ask_detect_two: 0.3,
        ask_neighbour: 0.4,
        ask_count_colour: 0.3,
        ask_segment: 2.2,
        ask_segment_kind: 0.3,
    },
    "mostly boxes": {
        ask_caption: 0.7,
        ask_text: 1,
        ask_count: 0.3,
        ask_detect: 5,
        ask_colour: 0.3,
        ask_count_kind: 0.3,
        ask_whether: 0.3,
        ask_foreign_caption: 0.3,
        ask_detect_kind: 1.2,
        ask_detect_two: 1,
        ask_neighbour: 0.3,
        ask_count_colour: 0.3,
    },
}


def questions_about(
    rng: random.Random, facts: list[Fact], digits: str, mix: str = "everything"
) -> list[Question]:
    """Draw questions on one picture, in random order, no prompt twice."""
    asked: dict[str, Question] = {}
    for asker, wanted in MIXES[mix].items():
        times = int(wanted) + (rng.random() < wanted % 1)
        for question in (asker(rng, facts, digits) for _ in range(times)):
            if question is not None:
                asked[question.prompt] = question
    questions = list(asked.values())
    rng.shuffle(questions)
    return questions
