"""Pictures to pixel values, and what bad pictures are told."""

import io
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from numpy_paligemma.inputs.image import (
    ImageSettings,
    PictureError,
    load_image,
    pixel_values,
)
from numpy_paligemma.inputs.settings import image_settings_from


@pytest.fixture
def photo() -> Image.Image:
    rng = np.random.default_rng(3)
    return Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8))


def png(width: int, height: int) -> bytes:
    """Write a PNG's header and hardly any data, whatever size it claims."""
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0),
        b"IDAT": zlib.compress(b"\0" * 10),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body))
        + tag
        + body
        + struct.pack(">I", zlib.crc32(tag + body))
        for tag, body in chunks.items()
    )


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def pixel(image: Image.Image) -> tuple[int, ...]:
    return tuple(np.asarray(load_image(image))[0, 0].tolist())


def test_bytes_become_values_from_minus_one_to_one() -> None:
    # the four values transformers gives, to the last bit
    levels = np.array([[0, 127], [128, 255]], np.uint8)
    x = pixel_values([load_image(levels)], ImageSettings(size=2))
    expected = np.float32([-1, -0.003921568393707275, 0.003921627998352051, 1])
    np.testing.assert_array_equal(
        x, np.broadcast_to(expected.reshape(2, 2), (1, 3, 2, 2))
    )
    assert x.dtype == np.float32


def test_every_byte_is_rounded_once_from_float64() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    x = pixel_values([load_image(levels)], ImageSettings(size=16))[0, 0]
    whole = np.float32(levels / 255.0)
    np.testing.assert_array_equal(x, (whole - np.float32(0.5)) / np.float32(0.5))


def test_channels_come_first_in_the_order_red_green_blue() -> None:
    red_to_the_left = np.zeros((4, 4, 3), np.uint8)
    red_to_the_left[:, :2, 0] = 255
    red, green, blue = pixel_values(
        [load_image(red_to_the_left)], ImageSettings(size=4)
    )[0]
    np.testing.assert_array_equal(red, [[1, 1, -1, -1]] * 4)
    assert (green == -1).all()
    assert (blue == -1).all()


def test_every_channel_has_its_own_mean_and_std() -> None:
    grey = load_image(np.full((2, 2), 255, np.uint8))
    chosen = ImageSettings(size=2, mean=(0.0, 0.5, 0.75), std=(1.0, 0.25, 0.125))
    np.testing.assert_array_equal(pixel_values([grey], chosen)[0, :, 0, 0], [1, 2, 2])


def test_a_picture_is_stretched_to_a_square_by_the_filter_named(
    photo: Image.Image,
) -> None:
    bicubic = pixel_values([photo], ImageSettings(size=14))
    bilinear = pixel_values([photo], ImageSettings(size=14, resample=2))
    by_hand = np.asarray(photo.resize((14, 14), Image.Resampling.BICUBIC))
    by_hand = np.moveaxis(by_hand, -1, 0) / 127.5 - 1
    assert np.abs(bicubic - by_hand).max() < 1e-6  # no grey level is 0.008
    assert np.abs(bilinear - by_hand).max() > 0.1


def test_pictures_of_several_sizes_make_one_array(photo: Image.Image) -> None:
    x = pixel_values([photo, photo.resize((7, 90))], ImageSettings(size=14))
    assert x.shape == (2, 3, 14, 14)
    np.testing.assert_array_equal(x[:1], pixel_values([photo], ImageSettings(size=14)))


@pytest.mark.parametrize(
    ("mode", "colour", "seen"),
    [
        ("RGBA", (200, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (200, 0, 0, 255), (200, 0, 0)),
        ("RGBA", (200, 0, 0, 51), (244, 204, 204)),
        ("LA", (0, 0), (255, 255, 255)),
        ("L", 90, (90, 90, 90)),
        ("1", 1, (255, 255, 255)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("F", 90.0, (90, 90, 90)),
        ("I", 40000, (255, 255, 255)),
    ],
    ids=str,
)
def test_transparency_lies_on_white_whatever_the_mode(
    mode: str, colour: tuple[int, ...], seen: tuple[int, ...]
) -> None:
    assert pixel(Image.new(mode, (2, 2), colour)) == seen


def test_a_transparent_palette_entry_is_white() -> None:
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert pixel(image) == (10, 20, 30)
    image.info["transparency"] = 1
    assert pixel(image) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(kind: str) -> None:
    levels = np.array([[0, 128, 129, 32768, 65535]], np.uint16)
    image = Image.open(io.BytesIO(encoded(Image.fromarray(levels), kind)))
    seen = np.asarray(load_image(image))[0, :, 0]
    np.testing.assert_array_equal(seen, [0, 0, 1, 128, 255])  # round(x / 257)


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B", "I;16N"])
def test_sixteen_bit_grey_is_scaled_in_either_byte_order(mode: str) -> None:
    assert pixel(Image.new(mode, (2, 2), 32768)) == (128, 128, 128)


def test_the_transparent_grey_of_a_sixteen_bit_png_is_white() -> None:
    levels = Image.fromarray(np.array([[700, 701]], np.uint16))
    image = Image.open(io.BytesIO(encoded(levels, "PNG", transparency=700)))
    np.testing.assert_array_equal(np.asarray(load_image(image))[0, :, 0], [255, 3])


def test_an_exif_orientation_is_not_applied(photo: Image.Image, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it a quarter
    path = tmp_path / "turned.png"
    photo.save(path, exif=exif)
    with Image.open(path) as sideways:
        assert sideways.getexif()[0x0112] == 6
        assert load_image(sideways).tobytes() == photo.tobytes()
    assert load_image(path).tobytes() == photo.tobytes()


def test_an_animated_picture_gives_its_current_frame(tmp_path: Path) -> None:
    red, blue = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    path = tmp_path / "two.gif"
    red.save(path, save_all=True, append_images=[blue])
    assert pixel(load_image(path)) == (255, 0, 0)
    with Image.open(path) as film:
        film.seek(1)
        assert pixel(film) == (0, 0, 255)


def test_a_path_standard_input_an_object_and_an_array_are_the_same_picture(
    photo: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "photo.png"
    photo.save(path)
    piped = io.TextIOWrapper(io.BytesIO(path.read_bytes()))
    monkeypatch.setattr(sys, "stdin", piped)
    sources = [path, str(path), "-", photo, np.asarray(photo)]
    assert {load_image(source).tobytes() for source in sources} == {photo.tobytes()}


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="the system has no /dev/fd")
def test_a_path_may_be_a_pipe(photo: Image.Image) -> None:
    reading, writing = os.pipe()
    os.write(writing, encoded(photo, "PNG"))
    os.close(writing)
    assert load_image(f"/dev/fd/{reading}").tobytes() == photo.tobytes()
    os.close(reading)


@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)], ids=str)
def test_arrays_of_bytes_may_have_these_channels(channels: tuple[int, ...]) -> None:
    image = load_image(np.full((5, 6, *channels), 255, np.uint8))
    assert (image.mode, image.size) == ("RGB", (6, 5))
    assert np.asarray(image).min() == 255


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.zeros((4, 4, 3), np.float32), "came float32: floats would be scaled twice"),
        (np.zeros((4, 4), np.uint16), "came uint16"),
        (np.zeros((3, 8, 9), np.uint8), r"came \(3, 8, 9\); np.moveaxis"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"came \(1, 4, 4, 3\)"),
        (np.zeros((0, 4), np.uint8), "size is 4 × 0"),
    ],
    ids=lambda case: getattr(case, "shape", None) and f"{case.dtype}{case.shape}",
)
def test_other_arrays_are_refused_with_the_reason(array: np.ndarray, told: str) -> None:
    with pytest.raises(PictureError, match=told):
        load_image(array)


def jpeg_cut_short() -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return encoded(Image.fromarray(noise), "JPEG")[:1500]


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("notes.png", b"a text file with another name\n" * 20, "is not a picture"),
        ("empty.jpg", b"", "is not a picture"),
        ("cut.jpg", jpeg_cut_short(), "is damaged or cut short"),
        ("cut.png", png(50, 50), "is damaged or cut short"),
        ("no-width.png", png(0, 3), "has no pixels"),
        ("no-height.gif", b"GIF89a\3\0\0\0\0\0\0;", "has no pixels"),
        ("huge.png", png(20_000, 10_000), r"is too large, shrink it.*200000000 pixels"),
    ],
)
def test_a_bad_file_is_told_in_one_line(
    name: str, data: bytes, told: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(PictureError, match=told) as caught:
        load_image(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"^no such picture: .*nowhere\.png'; give"
    ):
        load_image(tmp_path / "nowhere.png")
    with pytest.raises(PictureError, match=r"^cannot open .* as a picture: "):
        load_image(tmp_path)


def test_nothing_on_standard_input_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    with pytest.raises(PictureError, match=r"^standard input is not a picture"):
        load_image("-")


def test_an_object_without_pixels_is_refused() -> None:
    with pytest.raises(PictureError, match="no pixels: its size is 0 × 3"):
        load_image(Image.new("RGB", (0, 3)))


def test_a_picture_below_the_limit_raises_no_warning(
    photo: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "photo.png"
    photo.save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", photo.width * photo.height - 1)
    assert load_image(path).size == photo.size  # Pillow would warn, an error here
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", photo.width * photo.height // 2 - 1)
    with pytest.raises(PictureError, match="is too large"):
        load_image(path)


def picture_or_line(source: str) -> str:
    try:
        load_image(source)
    except PictureError as error:
        return str(error)
    return ""


@pytest.mark.filterwarnings("ignore")  # Pillow's, about damage that it gets over
@settings(max_examples=150)
@given(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]), st.data())
def test_a_damaged_file_gives_a_picture_or_one_line(
    kind: str, data: st.DataObject
) -> None:
    whole = encoded(Image.linear_gradient("L").resize((12, 9)), kind)
    damaged = bytearray(whole)
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=4)):
        damaged[at] ^= data.draw(st.integers(1, 255))
    del damaged[data.draw(st.integers(len(whole) // 2, len(whole))) :]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(damaged)))
        told = picture_or_line("-")
    assert told == "" or (told.startswith("standard input ") and "\n" not in told)


def test_settings_are_read_from_either_spelling_of_size() -> None:
    published = {
        "do_convert_rgb": None,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.1, 0.2, 0.3],
        "image_processor_type": "SiglipImageProcessor",
        "image_seq_length": 256,
        "image_std": [0.4, 0.5, 0.6],
        "resample": 2,
        "rescale_factor": 0.008,
        "size": {"height": 448, "width": 448},
    }
    expected = ImageSettings(448, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 0.008, 2)
    assert image_settings_from(published) == expected
    assert image_settings_from({**published, "size": 448}) == expected


def test_settings_left_out_are_those_of_siglip() -> None:
    half = (0.5, 0.5, 0.5)
    assert image_settings_from({}) == ImageSettings(224, half, half, 1 / 255, 3)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", {"height": 224, "width": 448}),
        ("size", {"shortest_edge": 224}),
        ("size", 0),
        ("size", "224"),
        ("size", True),
        ("size", None),
        ("do_resize", False),
        ("do_rescale", False),
        ("do_normalize", None),
        ("do_center_crop", True),
        ("do_pad", True),
        ("resample", 9),
        ("resample", "bicubic"),
        ("rescale_factor", 0),
        ("rescale_factor", None),
        ("image_mean", [0.5]),
        ("image_mean", 0.5),
        ("image_mean", [0.5, 0.5, float("nan")]),
        ("image_std", [0.5, 0.5, 0]),
    ],
)
def test_a_setting_that_we_cannot_follow_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{field}: expected .*, came ") as caught:
        image_settings_from({field: value})
    assert "\n" not in str(caught.value)
