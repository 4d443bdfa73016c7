"""Name the known mistake whose wrong twin gives the very output of a reader's layer."""

import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from mistakes import MISTAKES, Mistake

from exercises.compare import Outcome, array_fault, outcome
from exercises.draw import Draw
from exercises.ladder import HOME, LADDER, Case
from numpy_paligemma.model.tap import no_tap

# the ladder is PaliGemma 1's
MISTAKES_ON_THE_LADDER = [m for m in MISTAKES if m.model != "gemma_2"]


def diagnosis(layer: str, theirs: Any) -> str:
    """Say which known mistake explains a wrong layer, where it comes from, what is due."""
    known = list(known_mistakes(layer, theirs))
    if not known:
        return ""
    # several that cannot be told apart here differ in where they are made
    mistake, whole = min(known, key=lambda m: (not m[1], len(m[0].twin.__name__)))
    name, due = mistake.twin.__name__.replace("_", " "), formula(replaced(mistake))
    says = f'; {"" if whole else "in part "}this is "{name}" (from: {mistake.origin})'
    return f"{says}; due: {due}" if due else says


def known_mistakes(name: str, theirs: Any) -> Iterator[tuple[Mistake, bool]]:
    """Find the mistakes that explain a case, and whether they explain all."""
    cases = LADDER[name].values()
    right = [called(case, getattr(HOME[name], name)) for case in cases]
    got = [called(case, theirs) for case in cases]
    for mistake in MISTAKES_ON_THE_LADDER:
        wrong = [with_mistake(name, mistake, case) for case in cases]
        trials = [
            (alike(g, w), alike(w, r))
            for w, g, r in zip(wrong, got, right, strict=True)
            if not isinstance(w, Exception)  # a twin need not stand every case
        ]
        if (True, False) in trials:  # as the twin has it, and wrong
            yield mistake, all(explained for explained, _ in trials)


def called(case: Case, layer: Any) -> Outcome:
    """Call a layer on float64 arrays."""
    return outcome(case, layer, Draw(np.float64))


def with_mistake(name: str, mistake: Mistake, case: Case) -> Outcome:
    """Call our layer with a mistake in it, its own or that of a layer that it calls."""
    if replaced(mistake) == name:
        takes_tap = "tap" in inspect.signature(mistake.twin).parameters
        options = {"tap": no_tap} if takes_tap else {}
        return called(case, partial(mistake.twin, **options))
    with pytest.MonkeyPatch.context() as swap:
        for module in set(HOME.values()):
            if replaced(mistake) in vars(module):
                swap.setattr(module, replaced(mistake), mistake.twin)
        return called(case, getattr(HOME[name], name))


def replaced(mistake: Mistake) -> str:
    """Take the name of the layer that a twin stands for."""
    return mistake.replaces.rpartition(".")[2]


def alike(a: Outcome, b: Outcome) -> bool:
    """Whether two outcomes are the same arrays within rounding, nan for nan."""
    if isinstance(a, Exception) or isinstance(b, Exception) or len(a) != len(b):
        return False
    pairs = zip(a, b, strict=True)
    return all(
        np.array_equal(x, y, equal_nan=True) or not array_fault(x, y) for x, y in pairs
    )


def formula(name: str) -> str:
    """Take the formula out of a layer's docstring: what is set in there."""
    text = inspect.getdoc(getattr(HOME.get(name), name, None)) or ""
    paragraphs = text.split("\n\n")
    return next((" ".join(p.split()) for p in paragraphs if p.startswith("    ")), "")
