"""What would load, run and be quietly wrong is refused, in one line."""

import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import IMAGE_ID, VOCABULARY, random_tensors, write_checkpoint, write_config

from numpy_paligemma import PaliGemma, load_hf_model
from numpy_paligemma.checkpoints.config import read_config
from numpy_paligemma.checkpoints.hub import bundled
from numpy_paligemma.checkpoints.load import load_weights
from numpy_paligemma.commands import main
from numpy_paligemma.inputs.image import PictureError, load_image

Arrays = dict[str, np.ndarray]


@pytest.fixture
def model(tiny_folder: Path) -> PaliGemma:
    return load_hf_model(tiny_folder, device="cpu")[0]


@pytest.fixture
def inputs() -> Arrays:
    ids = np.array([[IMAGE_ID] * 9 + [2, 7, 8, 9]])
    pixels = np.zeros((1, 3, 14, 14), np.float32)
    return {"input_ids": ids, "pixel_values": pixels, "attention_mask": ids * 0 + 1}


def test_good_arrays_pass(model: PaliGemma, inputs: Arrays) -> None:
    assert model.logits(**inputs).shape == (1, 13, VOCABULARY)


@pytest.mark.parametrize("shape", [(1, 3, 15, 14), (1, 3, 8, 20), (1, 1, 14, 14)])
def test_pictures_of_another_size_are_refused(
    model: PaliGemma, inputs: Arrays, shape: tuple[int, ...]
) -> None:
    inputs["pixel_values"] = np.zeros(shape, np.float32)
    with pytest.raises(ValueError, match=r"expected \(pictures, 3, 14, 14\)"):
        model.logits(**inputs)


def test_no_pictures_at_all_are_refused(model: PaliGemma, inputs: Arrays) -> None:
    inputs["pixel_values"] = np.zeros((0, 3, 14, 14), np.float32)
    told = "^pixel_values: expected one picture or more, came none$"
    for ask in (
        lambda: model.look(inputs["pixel_values"]),
        lambda: model.generate(**inputs),
    ):
        with pytest.raises(ValueError, match=told):
            ask()


@pytest.mark.parametrize("token", [-1, VOCABULARY, 10**6])
def test_ids_that_the_model_does_not_have_are_refused(
    model: PaliGemma, inputs: Arrays, token: int
) -> None:
    inputs["input_ids"][0, -1] = token
    with pytest.raises(ValueError, match=f"0 to {VOCABULARY - 1}, came {token}"):
        model.generate(**inputs)


def test_a_mask_of_another_shape_is_refused(model: PaliGemma, inputs: Arrays) -> None:
    inputs["attention_mask"] = inputs["attention_mask"][:, 1:]
    with pytest.raises(ValueError, match=r"came \(1, 13\), and .* came \(1, 12\)"):
        model.logits(**inputs)


def test_padding_on_the_right_is_refused_where_the_next_token_is_asked(
    model: PaliGemma, inputs: Arrays
) -> None:
    inputs["attention_mask"][0, -1] = 0
    model.logits(**inputs)
    with pytest.raises(ValueError, match="padding on the left"):
        model.stream(**inputs)


@pytest.mark.parametrize(
    ("pixels", "came"),
    [
        (np.full((1, 3, 14, 14), 200, np.uint8), "uint8"),
        (np.full((1, 3, 14, 14), 1), "int64"),
        (np.arange(588.0).reshape(1, 3, 14, 14) % 256, "0 to 255"),
        (np.full((1, 3, 14, 14), np.nan), "nan to nan"),
        (np.full((1, 3, 14, 14), np.inf), "inf to inf"),
        (np.zeros((1, 3, 14, 14), complex), "complex128"),
    ],
    ids=["bytes", "whole numbers", "to 255", "NaN", "infinity", "complex"],
)
def test_pixels_that_the_processor_has_not_made_are_refused(
    model: PaliGemma, inputs: Arrays, pixels: np.ndarray, came: str
) -> None:
    inputs["pixel_values"] = pixels
    told = rf"within ±10, came {came}; hand pictures to the processor"
    for ask in (model.logits, model.stream):
        with pytest.raises(ValueError, match=told):
            ask(**inputs)
    with pytest.raises(ValueError, match=told):
        model.look(pixels)


@pytest.mark.parametrize("value", [2, -1, 0.5])
def test_a_mask_of_other_numbers_is_refused(
    model: PaliGemma, inputs: Arrays, value: float
) -> None:
    mask = inputs["attention_mask"].astype(type(value))
    mask[0, 0] = value
    inputs["attention_mask"] = mask
    with pytest.raises(ValueError, match=rf"0 for padding and 1 .* came {value}$"):
        model.logits(**inputs)


def test_a_mask_of_booleans_is_one(model: PaliGemma, inputs: Arrays) -> None:
    expected = model.logits(**inputs)
    inputs["attention_mask"] = inputs["attention_mask"] == 1
    np.testing.assert_array_equal(model.logits(**inputs), expected)


@pytest.mark.parametrize("ends", ["<eos>", 1.0, [1, 2.5], [None], [], True])
def test_ends_that_are_no_ids_are_refused(
    model: PaliGemma, inputs: Arrays, ends: Any
) -> None:
    with pytest.raises(
        ValueError, match="eos_token_id: expected a token id or several"
    ):
        model.stream(**inputs, eos_token_id=ends)


@pytest.mark.parametrize("ends", [1, [1, 5], (1,), np.int64(1), np.array([1])])
def test_ends_that_are_ids_pass(model: PaliGemma, inputs: Arrays, ends: Any) -> None:
    assert model.generate(**inputs, eos_token_id=ends, max_new_tokens=1).shape == (1, 1)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda x: x.astype(np.int32), "expected floats, came int32"),
        (lambda x: x.astype(complex), "expected floats, came complex128"),
        (lambda x: x * np.nan, "expected finite numbers"),
        (lambda x: x + np.inf, "expected finite numbers"),
    ],
    ids=["whole", "complex", "NaN", "infinity"],
)
def test_soft_tokens_that_are_no_numbers_are_refused(
    model: PaliGemma, inputs: Arrays, spoil: Any, told: str
) -> None:
    soft = spoil(model.look(inputs["pixel_values"]))
    with pytest.raises(ValueError, match=f"soft_tokens: {told}"):
        model.stream(**inputs, soft_tokens=soft)


CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "linear rope, older spelling": (
        {"text_config": {"rope_parameters": {"type": "linear", "factor": 2}}},
        'rope_parameters.type: expected "default", found "linear"',
    ),
    "true for a number": (
        {"text_config": {"rms_norm_eps": True}},
        "rms_norm_eps: expected a number above 0 and below 0.01, found true",
    ),
    "a number beyond all floats": (
        {"text_config": {"rope_theta": 10**400}},
        "rope_theta: expected a number above 1, found 1000",
    ),
    "two ids for one word": (
        {"image_token_id": IMAGE_ID, "image_token_index": IMAGE_ID - 1},
        f"image_token_index: expected {IMAGE_ID}, found {IMAGE_ID - 1}",
    ),
    "an id beyond all tables": ({"pad_token_id": 10**30}, "expected a token id"),
    "a tie that is neither": ({"tie_word_embeddings": 1.5}, "expected true or false"),
}


@pytest.mark.parametrize(("changes", "told"), CONFIGS.values(), ids=CONFIGS)
def test_a_config_that_would_be_misread_is_refused(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    write_config(tmp_path, **changes)
    with pytest.raises(ValueError, match=r"config\.json") as caught:
        read_config(tmp_path)
    assert told in str(caught.value)


def test_an_untied_head_that_is_not_there_is_missing(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    write_config(folder, tie_word_embeddings=False)
    with pytest.raises(ValueError, match=r"1 missing \(lm_head\.weight\)"):
        load_weights(folder, read_config(folder), "float32")


def test_more_blocks_than_tensors_end_at_once(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    write_config(folder, text_config={"num_hidden_layers": 10**9})
    with pytest.raises(ValueError, match="asks for 1000000002 blocks, but there are"):
        load_weights(folder, read_config(folder), "float32")


def test_a_tokenizer_of_more_pieces_than_rows_is_refused(tmp_path: Path) -> None:
    tensors, name = random_tensors(), "language_model.model.embed_tokens.weight"
    tensors[name] = tensors[name][:1500]
    folder = write_checkpoint(tmp_path, tensors)
    write_config(folder, text_config={"vocab_size": 1500})
    with pytest.raises(ValueError, match=r"but by config\.json the embedding has 1500"):
        load_hf_model(folder, device="cpu")


@pytest.mark.parametrize("word", ["bos", "pad"])
def test_a_tokenizer_with_other_special_ids_is_refused(
    tmp_path: Path, word: str
) -> None:
    folder = write_checkpoint(tmp_path)
    write_config(folder, **{f"{word}_token_id": 5})
    with pytest.raises(ValueError, match=f"<{word}> .* {word} is 5"):
        load_hf_model(folder, device="cpu")


def test_a_processor_of_another_number_of_soft_tokens_is_refused(
    tmp_path: Path,
) -> None:
    folder = write_checkpoint(tmp_path)
    fields = {"size": {"height": 14, "width": 14}, "image_seq_length": 10}
    (folder / "preprocessor_config.json").write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=r"image_seq_length 10, but .* is 9"):
        load_hf_model(folder, device="cpu")


def test_a_revision_of_what_is_on_this_disk_is_refused(tiny_folder: Path) -> None:
    for name in ["miniature", tiny_folder]:
        with pytest.raises(OSError, match="leave --revision out"):
            load_hf_model(name, revision="bfloat16")


def test_an_empty_name_is_not_the_current_folder(
    tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tiny_folder)
    with pytest.raises(OSError, match=r"^model: expected a folder or a hub name, came"):
        load_hf_model("")
    picture = str(bundled("sample.jpg"))
    assert main(["generate", "--model", "", "--image", picture, "--prompt", "x"]) == 1
    assert "error: model: expected a folder or a hub name" in capsys.readouterr().err
    assert main(["info", ""]) == 1


def test_odd_metadata_is_no_reason_to_refuse_a_picture(tmp_path: Path) -> None:
    cut_exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x0f\x01\x02\0\xff\0\0\0\xf0\xff"
    Image.new("RGB", (4, 4)).save(tmp_path / "x.jpg", exif=cut_exif)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_image(tmp_path / "x.jpg").size == (4, 4)


def test_postscript_is_not_run(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "x.eps")
    with pytest.raises(PictureError, match="export it as PNG"):
        load_image(tmp_path / "x.eps")


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["train"], "error: no such command: 'train'; expected "),
        (["--mod", "x", "--image", "x", "--prompt", "x"], "unrecognized arguments"),
    ],
    ids=["no command", "an option cut short"],
)
def test_what_is_not_there_is_a_usage_error(
    argv: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status: object = main(argv)
    except SystemExit as leaving:
        status = leaving.code
    assert status == 2
    assert told in capsys.readouterr().err


def test_a_letter_that_stdout_lacks_costs_no_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from numpy_paligemma import commands

    narrow = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr("sys.stdout", narrow)
    monkeypatch.setattr("sys.argv", ["numpy-paligemma"])
    monkeypatch.setattr(commands, "main", lambda _: print("日本"))  # noqa: T201
    with pytest.raises(SystemExit):
        commands.entry()
    narrow.seek(0)
    assert narrow.read().strip() == r"\u65e5\u672c"
