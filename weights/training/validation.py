"""Figures on held-out pictures while training goes on.

An answer counts as right if every token is the likeliest one after the true ones
before it: then greedy decoding gives the same text. Boxes are compared by IoU, and so
are masks, each in its own box.
"""

from collections import defaultdict

import numpy as np
import torch
from torch import Tensor

from .grading import overlap_share
from .learner import Learner, labels, mean
from .packing import Reader, pack, visibility
from .scenes import SIZE
from .tokenizer import IMAGE_ID, PIECES
from .truth import BINS, Question
from .vqvae import CELLS, VQVAE, mask_overlap

PICTURES, LENGTH = 64, 120


def validate(
    learner: Learner, reader: Reader, vae: VQVAE | None, pictures: int = PICTURES
) -> dict[str, float]:
    """Measure the answers under PaliGemma's own mask, or without `vae` the heads."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        return measure(learner, reader, reader.rows(0, pictures), vae)


def measure(
    learner: Learner, reader: Reader, rows: np.ndarray, vae: VQVAE | None
) -> dict[str, float]:
    """Ask everything of some pictures."""
    batch = reader.pictures(rows)
    features = learner.model.see(batch["picture"])
    if vae is None:
        return heads_right(learner, features, batch)
    texts: list[list[Question]] = []
    owners: list[int] = []
    for i, questions in enumerate(reader.questions(rows, 0)):
        texts += [[question] for question in questions]
        owners += [i] * len(questions)
    return answers_right(learner, features[torch.tensor(owners)], texts, reader, vae)


def heads_right(
    learner: Learner, features: Tensor, batch: dict[str, Tensor]
) -> dict[str, float]:
    """Measure the heads patch by patch; `box` is an error in pixels."""
    out, truth = learner.looking(features), labels(batch)
    on, on_number = truth["on"].float(), truth["on_number"].float()
    right = {
        name: mean((out[name].argmax(-1) == truth[name]).float(), on)
        for name in ("kind", "colour", "rank")
    }
    digits = out["digits"].view(*on.shape, 3, -1).argmax(-1) == truth["digits"]
    right["number"] = mean(digits.all(-1).float(), on_number)
    error = (out["box"] * SIZE - truth["box"]).abs().mean(-1)
    right["box"] = mean(error, on)
    right["count"] = (out["count"].argmax(-1) == truth["count"]).float().mean()
    return {name: float(value) for name, value in right.items()}


def answers_right(
    learner: Learner,
    features: Tensor,
    texts: list[list[Question]],
    reader: Reader,
    vae: VQVAE,
) -> dict[str, float]:
    """Measure the answers of each task, 256 rows at a time."""
    results: dict[str, list[float]] = defaultdict(list)
    for start in range(0, len(texts), 256):
        some = texts[start : start + 256]
        batch = pack(some, reader.vocabulary, LENGTH)
        hidden = visibility(batch, picture_sees_prompt=True)
        span = slice(start, start + 256)
        args = (features[span], batch["ids"], batch["position"], hidden)
        guess = learner.model.logits(learner.model.read(*args)).argmax(-1)
        for [question], target, said in zip(some, batch["target"], guess, strict=True):
            wanted = target >= 0
            grade(results, question, target[wanted], said[wanted], vae)
    return {task: sum(values) / len(values) for task, values in results.items()}


def grade(
    results: dict[str, list[float]],
    question: Question,
    target: Tensor,
    said: Tensor,
    vae: VQVAE,
) -> None:
    """Judge one answer: its words, its boxes and its masks, each apart."""
    place = (target >= PIECES) & (target < PIECES + BINS)
    code = (target >= PIECES + BINS) & (target < IMAGE_ID)
    results[question.task].append(float((target == said)[~place & ~code].all()))
    if question.task in {"detect", "segment"}:
        true, guess = target[place].view(-1, 4), said[place].view(-1, 4) - PIECES
        for a, b in zip((true - PIECES).tolist(), guess.tolist(), strict=True):
            name = "IoU" if question.task == "detect" else "segment IoU"
            results[name].append(overlap_share(a, b))
    if len(first := target[code]):
        words = torch.stack([first, said[code]]) - PIECES - BINS
        drawn = vae.drawn(words.clamp(0, 127).view(2, -1, CELLS).flatten(0, 1))
        true_masks, masks = drawn.unflatten(0, (2, -1))
        results["mask IoU"] += mask_overlap(true_masks, masks).tolist()
        results["codes"].append(float((first == said[code]).float().mean()))
