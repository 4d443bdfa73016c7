"""The template, the batch, and prompts that do not fit their pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_tokenizer import write_tokenizer

from numpy_paligemma.inputs.image import ImageSettings, PictureError
from numpy_paligemma.inputs.processing import PaliGemmaProcessor
from numpy_paligemma.inputs.tokenizer import Tokenizer

RED, BLUE = Image.new("RGB", (9, 5), "red"), Image.new("RGB", (4, 6), "blue")


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> PaliGemmaProcessor:
    path = write_tokenizer(tmp_path_factory.mktemp("tokenizer"))
    return PaliGemmaProcessor(
        Tokenizer(path), ImageSettings(size=6), image_seq_length=3
    )


def row(processor: PaliGemmaProcessor, text: str) -> list[int]:
    """Spell the expected row out: I is one soft token, ^ is <bos>."""
    words = text.replace("I", "<image>").replace("^", "<bos>")
    return processor.tokenizer.encode(words)


@pytest.mark.parametrize(
    ("prompt", "images", "expected"),
    [
        ("caption en", RED, "III^caption en\n"),
        ("caption en", [RED], "III^caption en\n"),
        ("caption en", (RED,), "III^caption en\n"),
        ("", RED, "III^\n"),
        (" caption en ", RED, "III^ caption en \n"),
        ("two\nlines\n", RED, "III^two\nlines\n\n"),
        ("<bos>caption en", RED, "III^^caption en\n"),
        ("caption en", [[RED, BLUE]], "IIIIII^caption en\n"),
        ("<image>caption en", RED, "III^caption en\n"),
        ("a<image>b", RED, "aIII^b\n"),
        ("<image> or <image>?", [RED, BLUE], "III or III^?\n"),
        ("<image> or <image>?", [[RED, BLUE]], "III or III^?\n"),
    ],
)
def test_a_row_is_pictures_bos_prompt_and_newline(
    processor: PaliGemmaProcessor, prompt: str, images: object, expected: str
) -> None:
    inputs = processor(prompt, images)
    assert inputs["input_ids"].tolist() == [row(processor, expected)]
    assert inputs["attention_mask"].tolist() == [[1] * len(row(processor, expected))]


def test_a_prompt_that_ends_in_a_newline_ends_in_one_token(
    processor: PaliGemmaProcessor,
) -> None:
    ids = processor("caption en\n", RED)["input_ids"][0]
    assert ids[-1] == processor.tokenizer.token_id("\n\n")


def test_the_arrays_are_what_the_model_takes(processor: PaliGemmaProcessor) -> None:
    inputs = processor(text=["caption en"], images=[RED])
    shapes = {name: (x.dtype.name, x.ndim) for name, x in inputs.items()}
    assert shapes == {
        "input_ids": ("int64", 2),
        "attention_mask": ("int64", 2),
        "pixel_values": ("float32", 4),
    }


def test_a_batch_is_padded_on_the_left_to_its_longest_row(
    processor: PaliGemmaProcessor,
) -> None:
    prompts = ["caption en", "", "answer en where is the cow standing?"]
    inputs = processor(prompts, [RED, BLUE, RED])
    rows = [row(processor, f"III^{prompt}\n") for prompt in prompts]
    longest = max(map(len, rows))
    assert inputs["input_ids"].shape == inputs["attention_mask"].shape == (3, longest)
    for ids, mask, expected in zip(
        inputs["input_ids"], inputs["attention_mask"], rows, strict=True
    ):
        padding = longest - len(expected)
        assert ids.tolist() == [processor.tokenizer.pad_token_id] * padding + expected
        assert mask.tolist() == [0] * padding + [1] * len(expected)


def test_pictures_come_in_the_order_of_the_rows(processor: PaliGemmaProcessor) -> None:
    x = processor(["caption en", "ocr"], [[RED], [BLUE, RED]])["pixel_values"]
    assert x.shape == (3, 3, 6, 6)
    seen = [tuple(picture[:, 0, 0].tolist()) for picture in x]
    assert seen == [(1, -1, -1), (-1, -1, 1), (1, -1, -1)]


def test_pictures_may_be_paths_arrays_and_objects(
    processor: PaliGemmaProcessor, tmp_path: Path
) -> None:
    RED.save(tmp_path / "red.png")
    sources = [str(tmp_path / "red.png"), tmp_path / "red.png", np.asarray(RED), RED]
    x = processor(["ocr"] * 4, sources)["pixel_values"]
    np.testing.assert_array_equal(x, np.broadcast_to(x[:1], x.shape))
    one = processor("ocr", sources[0])["pixel_values"]
    np.testing.assert_array_equal(one, x[:1])


@pytest.mark.parametrize(
    ("text", "images", "told"),
    [
        (["a", "b"], RED, r"each of 2 prompts, came \[1\]; several"),
        (["a", "b"], [RED], r"each of 2 prompts, came \[1\]"),
        ("a", [RED, BLUE], r"each of 1 prompts, came \[1, 1\]; .*images=\[\[a, b\]\]"),
        ("a", [], r"each of 1 prompts, came \[\]"),
        (["a", "b"], [[RED, BLUE], []], r"each of 2 prompts, came \[2, 0\]"),
        ([], [], "expected at least one prompt"),
        ("<image>a", [RED, BLUE], r"have \[1\] of them, the pictures are \[1, 1\]"),
        ("<image><image>", RED, r"have \[2\] of them, the pictures are \[1\]"),
        (["<image>" * 2, "b"], [RED, BLUE], r"have \[2, 0\] of them, .* are \[1, 1\]"),
        (
            ["<image>"] * 2,
            [[RED, BLUE], RED],
            r"have \[1, 1\] of them, .* are \[2, 1\]",
        ),
        (
            ["<image>", "<image>" * 2],
            [[RED, BLUE], [RED]],
            r"have \[1, 2\] of them, the pictures are \[2, 1\]",
        ),
    ],
)
def test_prompts_and_pictures_that_do_not_match_are_refused_with_both_counts(
    processor: PaliGemmaProcessor, text: object, images: object, told: str
) -> None:
    with pytest.raises(ValueError, match=told) as caught:
        processor(text, images)
    assert "\n" not in str(caught.value)


def test_a_bad_picture_in_a_batch_is_named(
    processor: PaliGemmaProcessor, tmp_path: Path
) -> None:
    (tmp_path / "notes.png").write_text("a text file")
    with pytest.raises(PictureError, match=r"notes\.png' is not a picture"):
        processor(["ocr", "ocr"], [RED, tmp_path / "notes.png"])
