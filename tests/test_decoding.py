"""Reading a batch in parts, where it does not fit at once: the same, in less memory."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from threadpoolctl import threadpool_info
from tolerances import ORACLE, relative_error

from numpy_paligemma import PaliGemma, load_hf_model, paligemma
from numpy_paligemma.inputs.processing import Inputs
from numpy_paligemma.model.tap import recorder

PROMPTS = ["caption en", "answer en where is the cow standing?", ""]
Asked = tuple[PaliGemma, Inputs]


@pytest.fixture(scope="module")
def asked(tiny_folder: Path) -> Asked:
    """Three rows of unequal prompts, of two, one and three pictures."""
    model, processor = load_hf_model(tiny_folder, device="cpu", dtype="float64")
    levels = np.random.default_rng(2).integers(0, 256, (6, 16, 18, 3), np.uint8)
    a, b, c, d, e, f = [Image.fromarray(x) for x in levels]
    return model, processor(PROMPTS, [[a, b], [c], [d, e, f]])


def in_parts(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Let so many rows fit into memory."""
    monkeypatch.setattr(paligemma, "rows_at_once", lambda *_: rows)


def first_logits(asked: Asked) -> np.ndarray:
    model, inputs = asked
    tap, seen = recorder()
    next(model.stream(**inputs, do_sample=False, tap=tap))
    return seen["logits"]


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_rows_that_do_not_fit_at_once_get_the_same_answers(
    asked: Asked, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs = asked
    options = {"max_new_tokens": 8, "eos_token_id": -1, "do_sample": False}
    whole = model.generate(**inputs, **options)
    in_parts(monkeypatch, rows)
    np.testing.assert_array_equal(model.generate(**inputs, **options), whole)


def test_every_row_reads_its_own_pictures(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = first_logits(asked)  # of the last part, here of all
    in_parts(monkeypatch, 1)
    assert relative_error(first_logits(asked), whole[2:]) < ORACLE


def test_pictures_that_do_not_fit_at_once_look_the_same(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs = asked
    whole = model.look(inputs["pixel_values"])
    in_parts(monkeypatch, 4)
    tap, seen = recorder()
    parts = model.look(inputs["pixel_values"], tap)
    assert seen["projector/out"].shape[0] == 2
    assert relative_error(parts, whole) < ORACLE


def test_blas_is_held_while_the_model_runs_and_free_while_the_caller_has_the_token(
    asked: Asked,
) -> None:
    def blas() -> set[int]:
        libraries = threadpool_info()
        return {x["num_threads"] for x in libraries if x["user_api"] == "blas"}

    model, inputs = asked
    before, inside = blas(), []

    def look(_: str, x: np.ndarray) -> np.ndarray:
        inside.append(blas())
        return x

    for _ in model.stream(**inputs, max_new_tokens=3, do_sample=False, tap=look):
        assert blas() == before
    assert inside
    assert all(found <= {1} for found in inside)
