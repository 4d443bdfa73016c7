"""Judge answers: texts by equality, boxes by intersection over union."""

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from .truth import Question

DETECTION = re.compile(r"((?:<loc\d{4}>){4}) ([a-z ]+)")
WORDS = ("caption en", "ocr", "colour", "count")  # the core tasks without boxes

Detection = tuple[tuple[float, ...], str]


def detections(text: str) -> list[Detection]:
    """Read boxes and labels from an answer."""
    found = DETECTION.findall(text)
    boxes = [tuple(map(float, re.findall(r"\d{4}", places))) for places, _ in found]
    labels = [label.strip() for _, label in found]
    return list(zip(boxes, labels, strict=True))


def matched(true: list[Detection], said: list[Detection]) -> list[float]:
    """Give each true box the IoU of the best unused answer with its label, or 0."""
    rest, shares = list(said), []
    for box, label in true:
        fits = [
            (overlap_share(box, guess), i)
            for i, (guess, name) in enumerate(rest)
            if name == label
        ]
        share, best = max(fits, default=(0.0, -1))
        shares.append(share)
        if best >= 0:
            del rest[best]
    return shares


def right(question: Question, said: str) -> bool:
    """Judge an answer: the text, or as many boxes and each one at least half right."""
    if not question.prompt.startswith("detect"):
        return said == question.answer
    true, guess = detections(question.answer), detections(said)
    good = all(share >= 0.5 for share in matched(true, guess))
    return good and [name for _, name in true] == [name for _, name in guess]


def figures(questions: list[Question], said: list[str]) -> dict[str, dict[str, float]]:
    """Average over each task: share of right answers, and the boxes' IoU."""
    values: dict[str, list[float]] = defaultdict(list)
    for question, text in zip(questions, said, strict=True):
        values[question.task].append(right(question, text))
        if question.task in WORDS:
            values["words"].append(text == question.answer)
        if question.task == "detect":
            true, guess = detections(question.answer), detections(text)
            shares = matched(true, guess)
            values["IoU"] += shares
            values["IoU ≥ 0.5"] += [share >= 0.5 for share in shares]
            values["IoU ≥ 0.75"] += [share >= 0.75 for share in shares]
            values["number of boxes"].append(len(true) == len(guess))
            if not true:
                values["nothing there"].append(not text)
    return {
        task: {"share": round(float(np.mean(some)), 4), "of": len(some)}
        for task, some in sorted(values.items())
    }


def overlap_share(a: Sequence[float], b: Sequence[float]) -> float:
    """Measure intersection over union of two boxes, corners in the same order."""
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    both = width * height
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - both
    return both / union if union > 0 else 0.0
