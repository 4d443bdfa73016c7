"""What the miniature is taught: pictures, true answers in four languages, ids."""

import itertools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from PIL import Image

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "weights"

CIRCLE, SQUARE, TRIANGLE, STAR, NUMBER = range(5)
RED, GREEN, BLUE, YELLOW, PURPLE, BLACK = range(6)
NOWHERE = (0.0, 0.0, 1.0, 1.0)


@pytest.fixture
def scenes(training: Any) -> list[Any]:
    draw = training("painting").draw_scene
    return [draw(np.random.default_rng((7, i))) for i in range(16)]


def facts(training: Any, *looks: tuple[int, int]) -> list[Any]:
    """Line objects up from left to right: colour and kind each."""
    make = training("truth").Fact
    boxes = [(10.0 * i, 0.0, 10.0 * i + 7, 7.0) for i in range(len(looks))]
    pairs = zip(looks, boxes, strict=True)
    return [make(kind, colour, box) for (colour, kind), box in pairs]


def test_a_seed_gives_one_picture(training: Any, scenes: list[Any]):
    again = training("painting").draw_scene(np.random.default_rng((7, 3)))
    assert np.array_equal(again.picture, scenes[3].picture)
    assert again.boxes == scenes[3].boxes
    assert not np.array_equal(scenes[2].picture, scenes[3].picture)


def test_every_box_is_filled_with_its_objects_colour(scenes: list[Any]):
    for scene in scenes:
        for thing, box in zip(scene.things, scene.boxes, strict=True):
            left, top, right, bottom = (round(at) for at in box)
            window = scene.picture[top:bottom, left:right].astype(float)
            near = np.abs(window - thing.rgb).max(-1) < 80
            assert near.mean() > 0.05
            rows, columns = near.any(1).nonzero()[0], near.any(0).nonzero()[0]
            assert np.ptp(rows) > 0.4 * (bottom - top)
            assert np.ptp(columns) > 0.4 * (right - left)


def test_objects_stand_apart_in_order_from_left_to_right(scenes: list[Any]):
    for scene in scenes:
        middles = [(box[0] + box[2]) / 2 for box in scene.boxes]
        assert all(b - a >= 5 for a, b in itertools.pairwise(middles))
        for i, a in enumerate(scene.boxes):
            for b in scene.boxes[:i]:
                assert a[0] > b[2] or b[0] > a[2] or a[1] > b[3] or b[1] > a[3]


def test_patches_belong_to_the_object_that_covers_them(scenes: list[Any]):
    for scene in scenes:
        for i, (left, top, right, bottom) in enumerate(scene.boxes):
            rows, columns = np.divmod((scene.owner == i).nonzero()[0], 8)
            assert len(rows)
            assert rows.min() >= top // 14
            assert rows.max() <= bottom // 14
            assert columns.min() >= left // 14
            assert columns.max() <= right // 14


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("en", "a red circle, a blue star and a black number"),
        ("de", "ein roter Kreis, ein blauer Stern und eine schwarze Zahl"),
        ("fr", "un cercle rouge, une étoile bleue et un nombre noir"),
        ("es", "un círculo rojo, una estrella azul y un número negro"),
    ],
)
def test_captions_agree_in_gender(training: Any, language: str, expected: str):
    looks = (RED, CIRCLE), (BLUE, STAR), (BLACK, NUMBER)
    caption = training("truth").caption
    assert caption(language, facts(training, *looks)) == expected


def test_every_adjective_takes_its_feminine_form(training: Any):
    name = training("words").name
    assert [name("de", colour, SQUARE).split()[1] for colour in range(6)] == (
        ["rotes", "grünes", "blaues", "gelbes", "violettes", "schwarzes"]
    )
    assert [name("fr", colour, STAR).split()[2] for colour in range(6)] == (
        ["rouge", "verte", "bleue", "jaune", "violette", "noire"]
    )
    assert [name("es", colour, STAR).split()[2] for colour in range(6)] == (
        ["roja", "verde", "azul", "amarilla", "morada", "negra"]
    )


def test_detection_answers_in_the_order_asked_then_left_to_right(training: Any):
    there = facts(training, (BLUE, STAR), (RED, CIRCLE), (BLUE, STAR))
    answer = training("truth").detect(there, [(RED, CIRCLE), (None, STAR)])
    assert answer == (
        "<loc0000><loc0091><loc0064><loc0155> red circle"
        " ; <loc0000><loc0000><loc0064><loc0064> star"
        " ; <loc0000><loc0182><loc0064><loc0246> star"
    )
    assert not training("truth").detect(there, [(GREEN, TRIANGLE)])


def test_questions_are_answered_from_what_is_there(training: Any):
    there = facts(training, (RED, STAR), (RED, CIRCLE), (BLACK, NUMBER))
    ask, rng = training("questions").questions_about, random.Random(0)
    known = {q.prompt: q.answer for _ in range(300) for q in ask(rng, there, "42")}
    assert known["ocr"] == "42"
    assert known["answer en how many shapes are there?"] == "2"
    assert known["answer en how many red shapes are there?"] == "2"
    assert known["answer en how many stars are there?"] == "1"
    assert known["answer en is there a red circle?"] == "yes"
    assert known["answer en is there a blue circle?"] == "no"
    assert known["answer en what colour is the number?"] == "black"
    assert known["answer en what is left of the star?"] == "nothing"
    assert known["answer en what is right of the star?"] == "a red circle"


def test_the_shipped_tokenizer_is_the_one_that_training_makes(training: Any):
    tokenizer = training("tokenizer")
    shipped = WEIGHTS / "miniature" / "tokenizer.model"
    assert tokenizer.train() == shipped.read_bytes()


def test_the_vocabulary_spells_every_question_and_takes_it_back(training: Any):
    model = WEIGHTS / "miniature" / "tokenizer.model"
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
    vocabulary = training("tokenizer").Vocabulary(model)
    there = facts(training, (RED, STAR), (GREEN, CIRCLE), (YELLOW, NUMBER))
    ask, rng = training("questions").questions_about, random.Random(0)
    for question in (q for _ in range(40) for q in ask(rng, there, "907")):
        text = f"{question.prompt}\n{question.answer}"
        assert vocabulary.encode(text) == pieces.encode(text)
        assert pieces.decode(vocabulary.encode(text)) == text
    assert pieces.encode("a<loc0000><loc1023><seg127>")[1:] == [768, 1791, 1919]


def test_the_samples_answers_lie_inside_the_samples():
    truth = json.loads((WEIGHTS / "samples" / "answers.json").read_text("utf-8"))
    assert len(truth) == 10
    for name, known in truth.items():
        with Image.open(WEIGHTS / "samples" / name) as image:
            width, height = image.size
        assert known["size"] == [width, height]
        for boxes in known["boxes"].values():
            for left, top, right, bottom in boxes:
                assert 0 <= left < right <= width
                assert 0 <= top < bottom <= height
