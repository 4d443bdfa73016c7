"""Boxes, masks and labels on a picture: seen on any ground, and the same every time."""

import io
import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageColor, features

from numpy_paligemma.answers.drawing import (
    COLOURS,
    Thing,
    check_ending,
    draw_things,
    encode,
    enlargement,
)
from numpy_paligemma.inputs.image import load_image

BOX = (100.0, 200.0, 300.0, 400.0)
WIDE, HIGH = 640, 480


def ground(
    colour: str = "#808080", size: tuple[int, int] = (WIDE, HIGH)
) -> Image.Image:
    return Image.new("RGB", size, colour)


def drawn(*things: Thing, on: str = "#808080") -> np.ndarray:
    """Draw on a plain ground: uint8 array, (height, width, 3)."""
    return np.asarray(draw_things(ground(on), things)).copy()


def pixels(image: np.ndarray, colour: str) -> np.ndarray:
    """Find the pixels of a colour: bool array, (height, width)."""
    return (image == ImageColor.getrgb(colour)).all(-1)


def extent(found: np.ndarray) -> tuple[int, int, int, int]:
    """Find the outermost True: left, top, right, bottom."""
    ys, xs = np.nonzero(found)
    return int(xs.min()), int(ys.min()), int(xs.max()), int(ys.max())


def ellipse() -> np.ndarray:
    y, x = np.mgrid[:HIGH, :WIDE] + 0.5
    return ((x - 200) / 100) ** 2 + ((y - 300) / 100) ** 2 < 1


# --- boxes ----------------------------------------------------------------------------


def test_a_box_is_drawn_where_it_is() -> None:
    image = drawn(Thing("", BOX))
    assert extent(pixels(image, COLOURS[0])) == (100, 200, 299, 399)
    assert (image[220:380, 120:280] == 128).all()  # inside nothing is touched


@pytest.mark.parametrize(
    "box",
    [
        (300.0, 200.0, 100.0, 400.0),
        (100.0, 400.0, 300.0, 200.0),
        (300.0, 400.0, 100.0, 200.0),
    ],
)
def test_inverted_corners_are_put_in_order(box: tuple[float, ...]) -> None:
    a, b, c, d = box
    found = drawn(Thing("cat", (a, b, c, d)))
    np.testing.assert_array_equal(found, drawn(Thing("cat", BOX)))


def test_a_box_at_the_edges_is_all_inside() -> None:
    image = drawn(Thing("", (0.0, 0.0, float(WIDE), float(HIGH))))
    assert extent(pixels(image, COLOURS[0])) == (0, 0, WIDE - 1, HIGH - 1)


def test_a_box_without_area_is_seen_nonetheless() -> None:
    image = drawn(Thing("", (100.0, 200.0, 100.0, 200.0)))
    assert pixels(image, COLOURS[0]).any()


def luminance(colour: str) -> float:
    """Measure brightness as the eye does (WCAG 2.2)."""
    share = np.array(ImageColor.getrgb(colour)) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(a: str, b: str) -> float:
    low, high = sorted([luminance(a), luminance(b)])
    return (high + 0.05) / (low + 0.05)


def rim(colour: str) -> str:
    """Find what is drawn around a colour, on a ground that neither of the two is."""
    labels = [f"{i}" for i in range(COLOURS.index(colour) + 1)]
    image = drawn(*(Thing(label, BOX) for label in labels))
    left = np.argmax(pixels(image, colour)[300])
    return "#" + bytes(image[300, left - 1].tolist()).hex()


@pytest.mark.parametrize("colour", COLOURS)
def test_letters_and_rims_stand_out_from_their_colour(colour: str) -> None:
    assert contrast(colour, rim(colour)) >= 4.5  # what WCAG asks of text


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(
    "on", [*COLOURS, "#000000", "#ffffff", "#808080", "#595959", "#8a8a8a", "#3f5f9f"]
)
def test_a_line_is_seen_on_any_ground(colour: str, on: str) -> None:
    assert max(contrast(on, colour), contrast(on, rim(colour))) >= 2.1  # √4.5


# --- colours --------------------------------------------------------------------------


def colours_of(*labels: str) -> list[str]:
    """Find the colour of each label's box; the boxes lie side by side."""
    things = [
        Thing(label, (i * 60.0, 100.0, i * 60.0 + 40, 300.0))
        for i, label in enumerate(labels)
    ]
    row = drawn(*things)[200]
    return ["#" + bytes(row[i * 60 + 1].tolist()).hex() for i in range(len(labels))]


def test_every_label_has_its_colour_in_the_order_in_which_they_come() -> None:
    found = colours_of("b", "a", "b", "c", "a")
    assert found == [COLOURS[i] for i in (0, 1, 0, 2, 1)]


def test_the_eighth_label_takes_the_first_colour_again() -> None:
    assert colours_of(*"abcdefgh") == [*COLOURS, COLOURS[0]]


def test_any_two_colours_are_told_apart_without_red_or_green_cones() -> None:
    # Viénot, Brettel and Mollon (1999): linear RGB as it is seen without one cone
    seen = {
        "no L": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
        "no M": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
    }
    for matrix in seen.values():
        levels = {
            c: 255
            * np.clip(matrix @ (np.array(ImageColor.getrgb(c)) / 255) ** 2.2, 0, 1)
            ** (1 / 2.2)
            for c in COLOURS
        }
        nearest = min(
            np.abs(levels[a] - levels[b]).max()
            for a, b in itertools.combinations(COLOURS, 2)
        )
        assert nearest > 20  # of 255; here 26, red and a green of equal brightness: 0


# --- masks ----------------------------------------------------------------------------


def test_a_mask_veils_what_is_inside_and_nothing_else() -> None:
    mask = ellipse()
    plain, veiled = drawn(Thing("cat", BOX)), drawn(Thing("cat", BOX, mask))
    changed = (plain != veiled).any(-1)
    near = mask.copy()  # the rim, a pixel wide, lies outside
    for axis, step in itertools.product((0, 1), (-1, 1)):
        near |= np.roll(mask, step, axis) | np.roll(near, step, axis)
    assert not changed[~near].any()
    np.testing.assert_array_equal(veiled[300, 200], [120, 138, 149])  # 128 and 20 % sky
    assert changed[mask].mean() > 0.9  # the box's own line lies above it


def test_a_mask_has_a_line_along_its_edge() -> None:
    image = drawn(Thing("", BOX, ellipse()))
    line = pixels(image, COLOURS[0])
    middle = line[300, 104:296]  # across, within the box's line
    assert not middle[5:-5].any()
    diagonal = line[np.arange(225, 240), np.arange(125, 140)]
    assert diagonal.any()


@pytest.mark.parametrize("shape", [(WIDE, HIGH), (HIGH, WIDE, 1), (64, 64)], ids=str)
def test_a_mask_of_another_size_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"expected a mask of shape \(480, 640\), came"
    ):
        drawn(Thing("cat", BOX, np.zeros(shape, bool)))


def test_the_same_thing_twice_is_drawn_once() -> None:
    thing = Thing("cat", BOX, ellipse())
    np.testing.assert_array_equal(drawn(thing, thing), drawn(thing))


def test_of_equal_things_the_one_with_a_mask_is_drawn() -> None:
    bare, masked = Thing("cat", BOX), Thing("cat", BOX, ellipse())
    for both in [(bare, masked), (masked, bare)]:
        np.testing.assert_array_equal(drawn(*both), drawn(masked))


# --- labels ---------------------------------------------------------------------------


def label_of(label: str, box: tuple[float, float, float, float]) -> np.ndarray:
    """Find the pixels that a label changes: bool array, (height, width)."""
    return (drawn(Thing(label, box)) != drawn(Thing("", box))).any(-1)


def test_a_label_lies_above_its_box() -> None:
    left, _, _, bottom = extent(label_of("yellow triangle", BOX))
    assert (left, bottom) == (100, 199)


@pytest.mark.parametrize(
    "box",
    [
        (0.0, 0.0, 50.0, 50.0),
        (590.0, 0.0, 640.0, 50.0),
        (590.0, 430.0, 640.0, 480.0),
        (0.0, 430.0, 50.0, 480.0),
        (620.0, 200.0, 640.0, 220.0),
        (0.0, 0.0, 640.0, 480.0),
        (0.0, 5.0, 640.0, 475.0),
    ],
)
def test_a_label_is_all_inside_the_picture(box: tuple[float, ...]) -> None:
    a, b, c, d = box
    left, top, right, bottom = extent(label_of("yellow triangle", (a, b, c, d)))
    free = extent(label_of("yellow triangle", BOX))
    # nothing is cut off; but what lies on the box's own line may not change it
    assert 0 <= free[2] - free[0] - (right - left) < 6
    assert 0 <= free[3] - free[1] - (bottom - top) < 6


def test_labels_of_one_box_do_not_cover_each_other() -> None:
    labels = ["cat", "pet", "animal", "tom"]
    together = drawn(*(Thing(label, BOX) for label in labels))
    line = pixels(drawn(Thing("", BOX)), COLOURS[0]).sum()
    for label, colour in zip(labels, COLOURS, strict=False):
        tag = pixels(drawn(Thing(label, BOX)), COLOURS[0]).sum() - line
        assert pixels(together, colour).sum() > 0.8 * tag, label


def test_a_label_too_long_is_cut_short() -> None:
    long = "a very long label " * 10
    image = drawn(Thing(long + "that ends", BOX))
    np.testing.assert_array_equal(image, drawn(Thing(long + "which stops", BOX)))
    assert (image != drawn(Thing("the " + long, BOX))).any()


@pytest.mark.parametrize(
    ("label", "same"),
    [("café naïve", "cafe naive"), ("two\nlines\ttab", "two lines tab"), ("ﬁn", "fin")],
)
def test_accents_and_odd_spaces_are_left_off(label: str, same: str) -> None:
    np.testing.assert_array_equal(drawn(Thing(label, BOX)), drawn(Thing(same, BOX)))


# --- the whole picture ----------------------------------------------------------------


def test_the_picture_itself_is_not_changed() -> None:
    picture = ground()
    before = picture.tobytes()
    draw_things(picture, [Thing("cat", BOX, ellipse())])
    assert picture.tobytes() == before


def test_without_things_a_large_picture_is_as_it_was() -> None:
    picture = Image.effect_noise((500, 460), 60).convert("RGB")
    assert draw_things(picture, []).tobytes() == picture.tobytes()


def test_the_same_things_make_the_same_picture() -> None:
    things = [Thing("cat", BOX, ellipse()), Thing("dog's", (5.0, 5.0, 99.5, 70.25))]
    first, again = (draw_things(ground(), things) for _ in range(2))
    assert first.tobytes() == again.tobytes()
    assert encode(first, "a.png") == encode(again, "b.png")


@pytest.mark.parametrize(
    ("size", "times"),
    [
        ((640, 640), 1),
        ((448, 448), 1),
        ((447, 900), 2),
        ((224, 224), 2),
        ((112, 112), 4),
        ((1, 1), 448),
        ((30, 20), 23),
        ((2000, 3), 1),
        ((3, 100), 20),
        ((5000, 4000), 1),
    ],
)
def test_small_pictures_are_enlarged(size: tuple[int, int], times: int) -> None:
    assert enlargement(size) == times
    picture = draw_things(ground(size=size), [])
    assert picture.size == (size[0] * times, size[1] * times)


def test_an_enlarged_box_lies_where_it_lay() -> None:
    mask = np.zeros((112, 112), bool)
    mask[20:40, 10:60] = True
    picture = draw_things(ground(size=(112, 112)), [Thing("", (10, 20, 60, 40), mask)])
    image = np.asarray(picture)
    assert extent(pixels(image, COLOURS[0])) == (40, 80, 239, 159)
    assert (image[:79] == 128).all()
    assert tuple(image[120, 140]) != (128, 128, 128)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_pictures_of_all_modes_are_drawn_on(mode: str) -> None:
    picture = load_image(Image.new(mode, (WIDE, HIGH)))
    image = np.asarray(draw_things(picture, [Thing("cat", BOX)]))
    assert extent(pixels(image, COLOURS[0]))[::3] == (100, 399)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_a_picture_that_load_image_did_not_give_is_refused(mode: str) -> None:
    with pytest.raises(ValueError, match=f"mode RGB, came {mode}; use load_image"):
        draw_things(Image.new(mode, (50, 50)), [])


places = st.floats(-1e4, 1e4)


@settings(max_examples=60)
@given(
    st.tuples(st.integers(1, 120), st.integers(1, 120)),
    st.lists(st.tuples(st.text(), places, places, places, places), max_size=3),
)
@example((2000, 1), [("cat", 0.0, 0.0, 1.0, 1.0)])
@example((1, 2000), [("cat", 0.0, 0.0, 1.0, 1.0)])
@example((40, 40), [("\ud800\x00\u202e", 0.0, 0.0, 1.0, 1.0)])
def test_no_label_or_box_raises(
    size: tuple[int, int], said: list[tuple[str, float, float, float, float]]
) -> None:
    draw_things(ground(size=size), [Thing(label, tuple(box)) for label, *box in said])


# --- files ----------------------------------------------------------------------------

KINDS = [
    ".png",
    ".PNG",
    ".jpg",
    ".jpeg",
    ".gif",
    ".bmp",
    ".tiff",
    ".ppm",
    ".pdf",
]


@pytest.mark.parametrize("ending", KINDS)
def test_the_name_says_what_kind_of_file(ending: str) -> None:
    check_ending(f"a{ending}")
    data = encode(ground(), f"folder.x/a{ending}")
    if ending != ".pdf":
        with Image.open(io.BytesIO(data)) as image:
            assert image.size == (WIDE, HIGH)
            assert Image.registered_extensions()[ending.lower()] == image.format


@pytest.mark.skipif(not features.check("webp"), reason="a Pillow without WebP")
def test_webp_is_written() -> None:
    assert encode(ground(), "a.webp")[8:12] == b"WEBP"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a", "a: expected a name that ends as a picture's, such as .png or .jpg"),
        ("png", "png: expected a name that ends"),
        ("-", "-: expected a name that ends"),
        ("a.txt", "a.txt: expected a name that ends"),
        ("a.psd", "a.psd: expected a name that ends"),  # Pillow can read these
        (".png", ".png: expected a name that ends"),
        (
            "a.xbm",
            "a.xbm: the picture cannot be written as XBM .*; take another ending",
        ),
        ("a.h5", "a.h5: the picture cannot be written as HDF5 .*; take another ending"),
        ("a.ico", r"a.ico: ICO makes \(400, 300\) into \(256, 192\); take another"),
    ],
)
def test_what_pillow_cannot_write_is_refused_in_one_line(name: str, told: str) -> None:
    with pytest.raises(ValueError, match=f"^{told}") as caught:
        check_ending(name)
    assert "\n" not in str(caught.value)


def test_a_picture_too_large_for_its_kind_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^a\.jpg: the picture cannot be written as JPEG"
    ):
        encode(ground(size=(70_000, 1)), "a.jpg")
