"""What a user holds: generating with a cache, in batches, with seeds and options."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tolerances import ORACLE, relative_error

from numpy_paligemma import PaliGemma, PaliGemmaProcessor, answer, load_hf_model
from numpy_paligemma.model.pipeline import decode_step, empty_caches, prefill
from numpy_paligemma.model.sampling import sample_token
from numpy_paligemma.model.tap import recorder
from numpy_paligemma.paligemma import Options

PROMPTS = ["caption en", "answer en where is the cow standing?", ""]
NEW = 10


@pytest.fixture(scope="module")
def loaded(tiny_folder: Path) -> tuple[PaliGemma, PaliGemmaProcessor]:
    return load_hf_model(tiny_folder, device="cpu", dtype="float64")


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    levels = np.random.default_rng(2).integers(0, 256, (3, 16, 18, 3), np.uint8)
    return [Image.fromarray(x) for x in levels]


def test_a_cache_gives_the_logits_of_one_pass_over_everything(
    loaded: tuple[PaliGemma, PaliGemmaProcessor], pictures: list[Image.Image]
) -> None:
    model, processor = loaded
    inputs = processor(PROMPTS, pictures)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    caches = empty_caches(3, ids.shape[1] + NEW, model.weights, model.config)
    pixels = inputs["pixel_values"].astype(np.float64)
    soft = model.look(pixels)
    steps = [prefill(ids, soft, mask, model.weights, model.config, caches)]
    new = np.random.default_rng(4).integers(3, 900, (3, NEW))
    for t in range(NEW):
        mask = np.pad(mask, ((0, 0), (0, 1)), constant_values=1)
        step = decode_step(new[:, t], mask, model.weights, model.config, caches)
        steps.append(step)

    types = np.repeat([[0, 1]], [ids.shape[1], NEW], axis=1).repeat(3, axis=0)
    whole = model.logits(np.hstack([ids, new]), pixels, mask, types)
    cached = np.stack(steps, axis=1)
    assert relative_error(cached, whole[:, -NEW - 1 :]) < ORACLE


def test_greedy_tokens_are_the_argmax_of_the_logits(
    loaded: tuple[PaliGemma, PaliGemmaProcessor], pictures: list[Image.Image]
) -> None:
    model, processor = loaded
    inputs = processor(["caption en"], pictures[:1])
    found = model.generate(
        **inputs, max_new_tokens=NEW, do_sample=False, eos_token_id=-1
    )
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    types = np.zeros_like(ids)
    for token in found[0]:
        logits = model.logits(ids, inputs["pixel_values"], mask, types)
        assert token == np.argmax(logits[0, -1].astype(np.float32))
        ids, mask = np.append(ids, [[token]], 1), np.append(mask, [[1]], 1)
        types = np.append(types, [[1]], 1)
    assert len(set(found[0].tolist())) > 1


@pytest.mark.parametrize("row", range(3))
def test_a_row_of_a_batch_is_that_prompt_alone(
    loaded: tuple[PaliGemma, PaliGemmaProcessor], pictures: list[Image.Image], row: int
) -> None:
    model, processor = loaded
    together = processor(PROMPTS, pictures)
    alone = processor([PROMPTS[row]], [pictures[row]])
    length = alone["input_ids"].shape[1]
    logits = model.logits(**together)[row : row + 1, -length:]
    assert relative_error(logits, model.logits(**alone)) < ORACLE
    greedy: Options = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": -1}
    rows = model.generate(**together, **greedy)
    np.testing.assert_array_equal(rows[row], model.generate(**alone, **greedy)[0])


@pytest.mark.parametrize("row", range(3))
def test_a_drawn_row_is_that_prompt_alone_with_the_generator_of_its_row(
    loaded: tuple[PaliGemma, PaliGemmaProcessor], pictures: list[Image.Image], row: int
) -> None:
    model, processor = loaded
    hot, top_p = 1.5, 0.95
    together = processor(PROMPTS, pictures)
    drawn: Options = {"temperature": hot, "top_p": top_p, "seed": 11}
    rows = model.generate(**together, **drawn, max_new_tokens=NEW, eos_token_id=-1)
    alone, rng = (
        processor([PROMPTS[row]], [pictures[row]]),
        np.random.default_rng([11, row]),
    )
    ids, mask = alone["input_ids"], alone["attention_mask"]
    caches = empty_caches(1, ids.shape[1] + NEW, model.weights, model.config)
    pixels = alone["pixel_values"].astype(np.float64)
    soft = model.look(pixels)
    logits = prefill(ids, soft, mask, model.weights, model.config, caches)
    for token in rows[row]:
        assert token == sample_token(logits[0], rng, temperature=hot, top_p=top_p)
        mask = np.append(mask, [[1]], 1)
        new = np.array([token])
        logits = decode_step(new, mask, model.weights, model.config, caches)


def test_one_look_serves_many_prompts(
    loaded: tuple[PaliGemma, PaliGemmaProcessor], pictures: list[Image.Image]
) -> None:
    model, processor = loaded
    inputs = processor(PROMPTS, pictures[:1] * 3)
    greedy: Options = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": -1}
    tap, seen = recorder()
    soft = model.look(inputs["pixel_values"][:1], tap)[[0, 0, 0]]
    assert {"vision/out", "projector/out"} <= seen.keys()
    tap, seen = recorder()
    again = model.generate(**inputs, soft_tokens=soft, **greedy, tap=tap)
    assert not [name for name in seen if name.startswith(("vision/", "projector/"))]
    np.testing.assert_array_equal(again, model.generate(**inputs, **greedy))


def test_soft_tokens_of_other_pictures_are_refused(
    loaded: tuple[PaliGemma, PaliGemmaProcessor], pictures: list[Image.Image]
) -> None:
    model, processor = loaded
    inputs = processor(PROMPTS, pictures)
    soft = model.look(inputs["pixel_values"][:2])
    with pytest.raises(ValueError, match=r"^soft_tokens: expected \(3, 9, 10\), one"):
        model.generate(**inputs, soft_tokens=soft)
    with pytest.raises(ValueError, match=r"^pixel_values: expected \(pictures, 3, 14"):
        model.look(inputs["pixel_values"][..., 1:])


def test_the_same_seed_writes_the_same_and_another_something_else(
    loaded: tuple[PaliGemma, PaliGemmaProcessor], pictures: list[Image.Image]
) -> None:
    model, processor = loaded
    inputs = processor(PROMPTS, pictures)

    def write(seed: int | None) -> list[list[int]]:
        ids = model.generate(**inputs, max_new_tokens=6, temperature=2.0, seed=seed)
        return ids.tolist()

    assert write(1) == write(1)
    assert write(1) != write(2)
    assert write(None) != write(None)


def test_a_row_that_has_ended_is_filled_with_the_pad_id(
    loaded: tuple[PaliGemma, PaliGemmaProcessor], pictures: list[Image.Image]
) -> None:
    model, processor = loaded
    inputs = processor(PROMPTS, pictures)
    options: Options = {"max_new_tokens": NEW, "do_sample": False}
    free = model.generate(**inputs, **options, eos_token_id=-1)
    end = int(free[0, 3])
    ended = model.generate(**inputs, **options, eos_token_id=[end, 2058])
    stops = [row.tolist().index(end) if end in row else NEW for row in free]
    assert ended.shape == (3, min(max(stops) + 1, NEW))
    for row, whole, stop in zip(ended, free, stops, strict=True):
        np.testing.assert_array_equal(row[: stop + 1], whole[: stop + 1][: len(row)])
        np.testing.assert_array_equal(row[stop + 1 :], model.config.pad_token_id)
    alone = model.generate(
        **processor(PROMPTS[:1], pictures[:1]), **options, eos_token_id=end
    )
    assert alone.shape[1] == stops[0] + 1  # nothing is read behind the end


def test_pixels_of_another_dtype_do_not_change_the_arithmetic(
    tiny_folder: Path, pictures: list[Image.Image]
) -> None:
    model, processor = load_hf_model(tiny_folder, device="cpu", dtype="float32")
    inputs = processor(["ocr"], pictures[:1])
    narrow = model.logits(**inputs)
    inputs["pixel_values"] = inputs["pixel_values"].astype(np.float64)
    assert model.logits(**inputs).dtype == np.float32
    np.testing.assert_array_equal(model.logits(**inputs), narrow)


@pytest.mark.parametrize("new", [0, 1, 4])
def test_as_many_tokens_come_as_were_asked_for(
    loaded: tuple[PaliGemma, PaliGemmaProcessor], pictures: list[Image.Image], new: int
) -> None:
    model, processor = loaded
    inputs = processor(PROMPTS, pictures)
    ids = model.generate(**inputs, max_new_tokens=new, eos_token_id=-1, seed=0)
    assert ids.shape == (3, new)
    assert ids.dtype == np.int64


def test_streaming_gives_the_columns_of_generating(
    loaded: tuple[PaliGemma, PaliGemmaProcessor], pictures: list[Image.Image]
) -> None:
    model, processor = loaded
    inputs = processor(PROMPTS, pictures)
    options: Options = {"max_new_tokens": 5, "seed": 3}
    columns = list(model.stream(**inputs, **options))
    assert all(column.shape == (3,) for column in columns)
    np.testing.assert_array_equal(
        np.stack(columns, 1), model.generate(**inputs, **options)
    )


def test_the_eye_looks_once(
    loaded: tuple[PaliGemma, PaliGemmaProcessor], pictures: list[Image.Image]
) -> None:
    model, processor = loaded
    seen: list[str] = []

    def note(name: str, x: np.ndarray) -> np.ndarray:
        seen.append(name)
        return x

    inputs = processor(["ocr"], pictures[:1])
    model.generate(**inputs, max_new_tokens=4, eos_token_id=-1, tap=note)
    assert seen.count("vision/embed") == seen.count("projector/out") == 1
    assert seen.count("logits") == 4


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_new_tokens": -1}, "max_new_tokens: expected 0 or more, came -1"),
        ({"temperature": -0.1}, "temperature: expected 0 or more, came -0.1"),
        ({"temperature": float("nan")}, "temperature: expected 0 or more, came nan"),
        ({"top_p": 0.0}, r"top_p: expected a number in \(0, 1\], came 0.0"),
        ({"top_p": 1.5}, r"top_p: expected a number in \(0, 1\], came 1.5"),
    ],
    ids=str,
)
def test_an_option_out_of_range_is_refused(
    loaded: tuple[PaliGemma, PaliGemmaProcessor],
    pictures: list[Image.Image],
    options: Options,
    told: str,
) -> None:
    model, processor = loaded
    with pytest.raises(ValueError, match=f"^{told}$"):
        model.generate(**processor(["ocr"], pictures[:1]), **options)


def test_the_whole_line_is_one_call(
    tiny_folder: Path, pictures: list[Image.Image], tmp_path: Path
) -> None:
    pictures[0].save(tmp_path / "x.png")
    model, processor = load_hf_model(tiny_folder)
    ids = model.generate(
        **processor(["ocr"], [pictures[0]]), do_sample=False, max_new_tokens=NEW
    )
    expected = processor.tokenizer.decode(ids[0])
    sources: list[Any] = [
        tmp_path / "x.png",
        str(tmp_path / "x.png"),
        pictures[0],
        [pictures[0]],
    ]
    for source in [*sources, np.asarray(pictures[0])]:
        options: Options = {"do_sample": False, "max_new_tokens": NEW}
        assert answer(source, "ocr", tiny_folder, **options) == expected
