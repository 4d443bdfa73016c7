"""Batches: pictures with their labels, and many questions in one row of text.

In a packed row nothing sees another question; every question starts at the position
after the picture. One question a row is the ordinary PaliGemma sequence.
"""

import random
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .data import Store, facts_about
from .questions import questions_about
from .scenes import GRID
from .tokenizer import BOS, EOS, IMAGE_ID, PIECES, Vocabulary
from .truth import BINS, Question
from .vqvae import unpack

NEWLINE = 4
ROOM = {"word": 40, "place": 30, "code": 26}  # targets a row, on average

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Reader:
    """Draws batches of one process: a batch depends on nothing but its number."""

    store: Store
    vocabulary: Vocabulary
    seed: int
    process: int
    mix: str = "everything"

    def rows(self, number: int, size: int) -> np.ndarray:
        """Choose a batch's pictures."""
        rng = np.random.default_rng((self.seed, self.process, number))
        return np.sort(rng.choice(len(self.store["kind"]), size, replace=False))

    def pictures(self, rows: np.ndarray) -> Batch:
        """Load pictures and the labels for the vision tower's heads.

        `mask` becomes 8 × 8 cells from -1, outside, to 1: (B, objects, 64).
        """
        batch = {name: torch.from_numpy(self.store[name][rows]) for name in self.store}
        bits = self.store["mask"][rows]
        masks = unpack(bits.reshape(-1, bits.shape[-1])).view(*bits.shape[:2], 64, 64)
        cells = masks.unflatten(3, (8, 8)).unflatten(2, (8, 8)).mean((3, 5))
        return batch | {"mask": cells.flatten(2)}

    def texts(self, rows: np.ndarray, number: int, length: int, each: int) -> Batch:
        """Draw questions: all that fit in a row if `each` is 0, else so many rows."""
        texts: list[list[Question]] = []
        for questions in self.questions(rows, number):
            texts += [[question] for question in questions[:each]] or [questions]
        return pack(texts, self.vocabulary, length)

    def questions(self, rows: np.ndarray, number: int) -> list[list[Question]]:
        """Draw questions on each picture."""
        rng = random.Random(hash((self.seed, self.process, number)))
        return [
            questions_about(rng, *facts_about(self.store, row), self.mix)
            for row in rows.tolist()
        ]


def pack(texts: list[list[Question]], vocabulary: Vocabulary, length: int) -> Batch:
    """Lay out questions in rows of `length` tokens; leave out what does not fit.

    Returns
    -------
    dict of
        ids, position : (B, T)
        question : (B, T), 1, 2, … or 0 for padding
        prompt : bool (B, T)
        target : (B, T), the next token where it belongs to an answer, else -1
    """
    shape = (len(texts), length)
    names = ("ids", "position", "question", "prompt", "target")
    out = {name: np.zeros(shape, np.int64) for name in names}
    out["target"] -= 1
    for row, questions in enumerate(texts):
        start = 0
        for number, question in enumerate(questions, 1):
            prompt = [BOS, *vocabulary.encode(question.prompt), NEWLINE]
            answer = vocabulary.encode(question.answer)
            span = slice(start, start + len(prompt) + len(answer))
            if span.stop > length:
                continue
            out["ids"][row, span] = prompt + answer
            out["position"][row, span] = GRID * GRID + np.arange(span.stop - start)
            out["question"][row, span] = number
            out["prompt"][row, start : start + len(prompt)] = 1
            last = start + len(prompt) - 1
            out["target"][row, last : span.stop] = [*answer, EOS]
            start = span.stop
    batch = {name: torch.from_numpy(array) for name, array in out.items()}
    return batch | targets(batch["target"])


def targets(target: Tensor) -> Batch:
    """Gather words, places and codes into lists of fixed length: for the compiler.

    `word_at`, `place_at` and `code_at` index the flattened (B·T) positions; a missing
    entry has the weight 0, and the few beyond the fixed length are left out.
    """
    flat, rows = target.flatten(), len(target)
    place = (flat >= PIECES) & (flat < PIECES + BINS)
    code = (flat >= PIECES + BINS) & (flat < IMAGE_ID)
    chosen = {"word": (flat >= 0) & ~place & ~code, "place": place, "code": code}
    out = {}
    for name, room in ROOM.items():
        at = chosen[name].nonzero().flatten()[: rows * room]
        missing = rows * room - len(at)
        out[f"{name}_at"] = torch.nn.functional.pad(at, (0, missing))
        out[f"{name}_weight"] = (torch.arange(rows * room) < len(at)).float()
    return out


def visibility(batch: Batch, *, picture_sees_prompt: bool) -> Tensor:
    """Build the mask added to the scores: 0, or -inf where a query must not look.

    A prompt sees the picture and itself both ways, an answer also what came before
    it. In PaliGemma's own mask, for one question a row, the picture sees the prompt.

    Returns
    -------
    float (B, P + T, P + T)
    """
    question, prompt = batch["question"], batch["prompt"].bool()
    B, T = question.shape
    P = GRID * GRID
    order = torch.arange(T)
    same = question[:, :, None] == question[:, None]
    seen = torch.ones(B, P + T, P + T, dtype=torch.bool)
    seen[:, P:, P:] = same & (prompt[:, None] | (order[:, None] >= order))
    seen[:, :P, P:] = prompt[:, None] & picture_sees_prompt
    return torch.where(seen, 0.0, -torch.inf)
