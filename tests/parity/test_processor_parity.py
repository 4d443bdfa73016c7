"""Pixel values and token ids against transformers' own processor, equal throughout."""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_texts import WORDS
from PIL import Image
from tiny_tokenizer import transformers_twin, write_tokenizer

from numpy_paligemma.inputs.image import ImageSettings, load_image, pixel_values
from numpy_paligemma.inputs.processing import PaliGemmaProcessor
from numpy_paligemma.inputs.settings import image_settings_from
from numpy_paligemma.inputs.tokenizer import Tokenizer

transformers = pytest.importorskip("transformers")
siglip = pytest.importorskip("transformers.models.siglip.image_processing_pil_siglip")

pytestmark = pytest.mark.parity

MINIATURE = Path(__file__).parents[2] / "weights" / "miniature"
PICTURE = Image.linear_gradient("L").resize((5, 4))

PROMPTS = st.lists(st.sampled_from(WORDS) | st.text(max_size=5)).flatmap(
    lambda words: st.sampled_from(["", " "]).map(lambda gap: gap.join(words))
)


@dataclass(frozen=True, repr=False)  # hypothesis prints it, and theirs is long
class Processors:
    """Ours and theirs, of one checkpoint."""

    ours: PaliGemmaProcessor
    theirs: Any


def both_processors(model_path: Path, twin: Any, tokens: int) -> Processors:
    pixels = siglip.SiglipImageProcessorPil(size={"height": 8, "width": 8})
    pixels.image_seq_length = tokens
    theirs = transformers.PaliGemmaProcessor(pixels, twin)
    tokenizer = Tokenizer(model_path, theirs.image_token_id)
    ours = PaliGemmaProcessor(tokenizer, ImageSettings(size=8), tokens)
    return Processors(ours, theirs)


@pytest.fixture(scope="module", params=["tiny", "miniature"])
def processors(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Processors:
    transformers.logging.set_verbosity_error()
    if request.param == "tiny":
        path = write_tokenizer(tmp_path_factory.mktemp("tokenizer"))
        return both_processors(path, transformers_twin(), 3)
    if not (MINIATURE / "tokenizer.json").exists():
        pytest.skip("weights/miniature has no tokenizer.json")
    twin = transformers.AutoTokenizer.from_pretrained(MINIATURE)
    return both_processors(MINIATURE / "tokenizer.model", twin, 64)


def assert_equal_rows(processors: Processors, prompts: list[str], images: Any) -> None:
    ours, theirs = processors.ours, processors.theirs
    a = ours(text=prompts, images=images)
    b = theirs(text=prompts, images=images, padding=True, return_tensors="np")
    for name, array in a.items():
        np.testing.assert_array_equal(array, b[name], err_msg=f"{name}, {prompts!r}")


@settings(deadline=None, max_examples=300)
@given(prompts=st.lists(PROMPTS, min_size=1, max_size=4))
def test_any_batch_of_prompts_gives_the_same_rows(
    processors: Processors, prompts: list[str]
) -> None:
    assert_equal_rows(processors, prompts, [PICTURE] * len(prompts))


@settings(deadline=None, max_examples=100)
@given(parts=st.lists(PROMPTS, min_size=2, max_size=4))
def test_any_prompt_with_pictures_written_in_it_gives_the_same_row(
    processors: Processors, parts: list[str]
) -> None:
    assert_equal_rows(
        processors, ["<image>".join(parts)], [[PICTURE] * (len(parts) - 1)]
    )


def test_two_thousand_strings_of_words_give_the_same_ids_and_text(
    processors: Processors,
) -> None:
    ours, theirs = processors.ours, processors.theirs
    draw = random.Random(5)
    for _ in range(2000):
        gap = draw.choice(["", " "])
        text = gap.join(draw.choices([*WORDS, "<image>"], k=draw.randrange(30)))
        expected = theirs.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert ours.tokenizer.encode(text) == expected, text
        shown = theirs.tokenizer.decode(expected, skip_special_tokens=True)
        assert ours.tokenizer.decode(expected) == shown, text


def test_several_pictures_a_prompt_give_the_same_rows(
    processors: Processors,
) -> None:
    other = Image.radial_gradient("L").convert("RGB").resize((9, 3))
    nested = [[PICTURE, other], [other]]
    assert_equal_rows(processors, ["answer en what is in the image?", "ocr"], nested)
    assert_equal_rows(processors, ["<image>a<image>", "<image>b"], nested)
    assert_equal_rows(processors, ["<image>a<image>", "<image>b"], [*nested[0], other])


@settings(deadline=None, max_examples=300)
@given(text=PROMPTS, skip=st.booleans())
def test_ids_of_any_text_are_decoded_alike(
    processors: Processors, text: str, skip: bool
) -> None:
    ours, theirs = processors.ours, processors.theirs
    ids = ours.tokenizer.encode(text)
    expected = theirs.tokenizer.decode(ids, skip_special_tokens=skip)
    assert ours.tokenizer.decode(ids, skip_special_tokens=skip) == expected


def test_ids_behind_the_vocabulary_are_decoded_alike(
    processors: Processors,
) -> None:
    ours, theirs = processors.ours, processors.theirs
    ids = [ours.tokenizer.vocab_size, *ours.tokenizer.encode("a b")]
    expected = theirs.tokenizer.decode(ids, skip_special_tokens=True)
    assert ours.tokenizer.decode(ids) == expected == "a b"


def test_departure_mask_is_special_only_where_the_file_has_it(
    processors: Processors,
) -> None:
    """Gemma's file has it; where it lacks, transformers adds it behind ``<image>``."""
    ours, theirs = processors.ours.tokenizer, processors.theirs.tokenizer
    seen = ours.encode("a<mask>")
    expected = theirs("a<mask>", add_special_tokens=False)["input_ids"]
    if expected[-1] < ours.vocab_size:
        assert seen == expected
        assert ours.decode(seen) == "a"
    else:
        assert expected[-1] == ours.vocab_size
        assert ours.decode(seen) == "a<mask>"
    assert theirs.decode(expected, skip_special_tokens=True) == "a"


def test_departure_a_whole_character_beside_a_broken_one_is_shown(
    processors: Processors,
) -> None:
    """Follow sentencepiece: tokenizers gives up on the whole run of bytes.

    Its rule cannot be streamed: every character of the run would have to wait for the
    run's end.
    """
    ours, theirs = processors.ours, processors.theirs
    good, bad = "🐮".encode(), b"\xff"
    for data, marks in [(good, 0), (bad, 1), (good[:3], 3), (good + bad, 5)]:
        ids = [ours.tokenizer.token_id(f"<0x{byte:02X}>") for byte in data]
        alike = theirs.tokenizer.decode(ids)
        assert alike == ("�" * marks or "🐮")
        shown = "🐮�" if data == good + bad else alike
        assert ours.tokenizer.decode(ids) == shown


def noise(mode: str, height: int, width: int) -> Image.Image:
    """Draw random pixels of a Pillow mode, its alpha too."""
    rng = np.random.default_rng([height, width])
    if mode in {"I", "F"}:
        return Image.fromarray(
            rng.integers(0, 300, (height, width)).astype(mode.lower())
        )
    rgba = rng.integers(0, 256, (height, width, 4), dtype=np.uint8)
    image = Image.fromarray(rgba)
    if mode in {"PA", "La", "RGBa"}:
        return image.convert({"PA": "LA"}.get(mode, "RGBA")).convert(mode)
    if mode == "RGBA":
        return image
    if mode == "LA":
        return image.convert("LA")
    return image.convert("RGB").convert(mode)


MODES = ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "F"]
MODES += ["LA", "PA", "RGBX", "RGBa"]
SHAPES = [(224, 224), (300, 200), (37, 500), (1, 1), (13, 1)]


def assert_equal_pixels(picture: Image.Image, **changed: Any) -> None:
    theirs = siglip.SiglipImageProcessorPil(**changed)
    ours = image_settings_from(json.loads(theirs.to_json_string()))
    expected = theirs(picture, return_tensors="np")["pixel_values"]
    seen = pixel_values([load_image(picture)], ours)
    assert seen.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(seen, expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_pixels_of_every_mode_and_shape_are_equal_to_the_last_bit(
    mode: str, shape: tuple[int, int]
) -> None:
    assert_equal_pixels(noise(mode, *shape))


@pytest.mark.parametrize(
    ("mode", "transparent"),
    [("P", 3), ("P", bytes(range(256))), ("L", 90), ("1", 1), ("RGB", (0, 0, 0))],
    ids=["P-index", "P-table", "L", "1", "RGB"],
)
def test_pixels_under_a_transparency_key_are_equal(mode: str, transparent: Any) -> None:
    picture = noise(mode, 60, 50)
    picture.paste(0, (0, 0, 20, 20))
    picture.info["transparency"] = transparent
    assert_equal_pixels(picture)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_exif_orientation_is_left_alone_in_an_object(
    orientation: int, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    noise("RGB", 30, 50).save(tmp_path / "photo.jpg", exif=exif)
    with Image.open(tmp_path / "photo.jpg") as picture:
        assert_equal_pixels(picture)


def test_every_frame_of_an_animation_is_equal(tmp_path: Path) -> None:
    frames = [noise("P", 20, height) for height in [30, 30, 30]]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "film.gif") as film:
        for frame in range(film.n_frames):
            film.seek(frame)
            assert_equal_pixels(film)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_arrays_of_bytes_are_equal(channels: int) -> None:
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, (31, 47, channels), dtype=np.uint8)
    theirs = siglip.SiglipImageProcessorPil()(array, return_tensors="np")
    seen = pixel_values([load_image(array)], ImageSettings(size=224))
    np.testing.assert_array_equal(seen, theirs["pixel_values"])


def test_every_byte_under_every_alpha_is_blended_alike() -> None:
    level, alpha = np.meshgrid(np.arange(256), np.arange(256))
    picture = Image.fromarray(np.stack([level] * 3 + [alpha], -1).astype(np.uint8))
    assert_equal_pixels(picture, size={"height": 256, "width": 256})


@pytest.mark.parametrize(
    "changed",
    [
        {"size": {"height": 28, "width": 28}},
        {"resample": 2},
        {"resample": 0},
        {"image_mean": [0.48, 0.45, 0.4], "image_std": [0.27, 0.26, 0.3]},
        {"rescale_factor": 0.0078125},
    ],
    ids=str,
)
def test_pixels_under_other_settings_are_equal(changed: dict[str, Any]) -> None:
    assert_equal_pixels(noise("RGB", 61, 45), **changed)


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_departure_sixteen_bit_grey_is_scaled_where_transformers_clips(
    mode: str,
) -> None:
    grey = Image.new(mode, (4, 4), 32768)
    theirs = siglip.SiglipImageProcessorPil()(grey, return_tensors="np")["pixel_values"]
    assert (theirs == 1).all()  # white
    seen = pixel_values([load_image(grey)], ImageSettings(size=224))
    np.testing.assert_array_equal(seen, np.full_like(seen, 0.003921628))  # 128


def test_departure_a_file_is_not_turned_where_transformers_turns_a_path(
    tmp_path: Path,
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.png"
    noise("RGB", 30, 50).save(path, exif=exif)
    turned = siglip.SiglipImageProcessorPil()(
        siglip.SiglipImageProcessorPil().fetch_images(str(path)), return_tensors="np"
    )["pixel_values"]
    seen = pixel_values([load_image(path)], ImageSettings(size=224))
    assert np.abs(turned - seen).max() > 0.5
    with Image.open(path) as picture:
        assert_equal_pixels(picture)
