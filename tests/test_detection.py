"""Answers into boxes: what is read, what is not and why, and the places' scale."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from numpy_paligemma.answers.detection import (
    BOX_SCALES,
    Detection,
    Fragment,
    bins_of_box,
    box_in_pixels,
    box_tokens,
    parse_answer,
)

A, B = (51, 309, 708, 646), (0, 7, 1023, 900)
BOX_A, BOX_B = box_tokens(A), box_tokens(B)
CODES = (0, 127, *range(14))
SEGS = "".join(f"<seg{code:03d}>" for code in CODES)
NO_BOX, CUT = "text without a box", "cut off within a token"
AGAIN = "repeats an earlier box"

# an answer, and of each part what it is: label, bins and codes of an object, or None;
# then its reason
Part = tuple[tuple[str, tuple[int, ...], tuple[int, ...]] | None, str]


def cat(codes: tuple[int, ...] = (), reason: str = "", label: str = "cat") -> Part:
    return (label, A, codes), reason


def named(label: str) -> Part:
    return (label, A, ()), ""


def dog(reason: str = "", label: str = "dog") -> Part:
    return (label, B, ()), reason


def rest(reason: str = "") -> Part:
    return None, reason


PLAIN = {  # nothing of a detection: one part and no fault
    "a caption": "a red circle, a blue star",
    "a yes": "yes",
    "lines of text": "STOP\nno entry; really",
    "a separator": " ; ",
    "a blank": " ",
    "a less-than": "1 < 2",
    "a less-than at the end": "1 <",
    "a tag": "<b>bold</b> <local>",
    "an end": "a cat<eos>",
    "capitals": "<LOC0001>",
    "digits of another script": "<loc٣٣٣٣>",
}
GOOD: dict[str, tuple[str, list[Part]]] = {
    "one object": (f"{BOX_A} cat", [cat()]),
    "two objects": (f"{BOX_A} cat ; {BOX_B} dog", [cat(), dog()]),
    "no spaces about the semicolon": (f"{BOX_A} cat;{BOX_B} dog", [cat(), dog()]),
    "a comma in the label": (f"{BOX_A} cat, black", [named("cat, black")]),
    "a space before the semicolon only": (f"{BOX_A} cat ;{BOX_B} dog", [cat(), dog()]),
    "three of a kind": (
        f"{BOX_A} cat ; {BOX_B} cat ; {box_tokens((1, 2, 3, 4))} cat",
        [cat(), dog(label="cat"), (("cat", (1, 2, 3, 4), ()), "")],
    ),
    "several words": (
        f"{BOX_A} the red car on the left",
        [named("the red car on the left")],
    ),
    "a dot": (f"{BOX_A} St. Bernard", [named("St. Bernard")]),
    "an apostrophe": (f"{BOX_A} dog's bowl", [named("dog's bowl")]),
    "marks": (f"{BOX_A} no. 7 (blue)!", [named("no. 7 (blue)!")]),
    "a hyphen and a slash": (f"{BOX_A} t-shirt/top", [named("t-shirt/top")]),
    "accents": (f"{BOX_A} café noir", [named("café noir")]),
    "Japanese": (f"{BOX_A} 日本の猫", [named("日本の猫")]),
    "an emoji": (f"{BOX_A} 🐮", [named("🐮")]),
    "digits of other scripts": (f"{BOX_A} ٣ apples", [named("٣ apples")]),
    "a less-than": (f"{BOX_A} a < b", [named("a < b")]),
    "tags in the label": (f"{BOX_A} <b>cat</b> <local>", [named("<b>cat</b> <local>")]),
    "no space before the label": (f"{BOX_A}cat", [cat()]),
    "many spaces": (f"{BOX_A}   cat   ;   {BOX_B}  dog  ", [cat(), dog()]),
    "no label": (BOX_A, [named("")]),
    "two without labels": (f"{BOX_A} ; {BOX_B}", [named(""), dog(label="")]),
    "a blank between boxes": (f"{BOX_A} {BOX_B}", [named(""), dog(label="")]),
    "lines": (f"{BOX_A} cat\n{BOX_B} dog\n", [cat(), dog()]),
    "lines of Windows": (f"{BOX_A} cat\r\n{BOX_B} dog", [cat(), dog()]),
    "nothing between objects": (f"{BOX_A} cat{BOX_B} dog", [cat(), dog()]),
    "a semicolon at the end": (f"{BOX_A} cat ; ", [cat()]),
    "two semicolons": (f"{BOX_A} cat ;; {BOX_B} dog", [cat(), dog()]),
    "an end": (f"{BOX_A} cat<eos>", [cat()]),
    "an end and padding": (f"{BOX_A} cat<eos><pad><pad>", [cat()]),
    "a beginning": (f"<bos>{BOX_A} cat", [rest(), cat()]),
    "a blank first": (f" {BOX_A} cat", [rest(), cat()]),
    "a mask": (f"{BOX_A}{SEGS} cat", [cat(CODES)]),
    "a mask without a label": (f"{BOX_A}{SEGS}", [cat(CODES, label="")]),
    "a blank before the mask": (f"{BOX_A} {SEGS} cat", [cat(CODES)]),
    "a mask and a box": (f"{BOX_A}{SEGS} cat ; {BOX_B} dog", [cat(CODES), dog()]),
    "one box with two labels": (f"{BOX_A} cat ; {BOX_A} pet", [cat(), named("pet")]),
    "the whole picture": (
        f"{box_tokens((0, 0, 1023, 1023))} sky",
        [(("sky", (0, 0, 1023, 1023), ()), "")],
    ),
}
NO_AREA = "a box without area"
BAD: dict[str, tuple[str, list[Part]]] = {
    "text first": (f"there is {BOX_A} cat", [rest(NO_BOX), cat()]),
    "text between": (f"{BOX_A} cat ; dog ; {BOX_B} dog", [cat(), rest(NO_BOX), dog()]),
    "text after": (f"{BOX_A} cat\nand a dog", [cat(), rest(NO_BOX)]),
    "the prompt first": (
        f"<bos>detect cat\n{BOX_A} cat<eos>",
        [rest(), rest(NO_BOX), cat()],
    ),
    "three places": (BOX_A[9:] + " cat", [rest("expected 4 places, found 3")]),
    "five places": (  # the miniature said such a thing
        f"{BOX_A}<loc0812> blue star",
        [rest("expected 4 places, found 5")],
    ),
    "eight places": (f"{BOX_A}{BOX_B} cat", [rest("expected 4 places, found 8")]),
    "places apart": (
        f"{BOX_A[:18]} {BOX_A[18:]} cat",
        [rest("expected 4 places, found 2")] * 2,
    ),
    "a bad object and a good one": (
        f"{BOX_A[9:]} cat ; {BOX_B} dog",
        [rest("expected 4 places, found 3"), dog()],
    ),
    "a bin too high": (
        f"{BOX_A[:27]}<loc1024> cat",
        [rest("<loc1024> is none of the 1024 places")],
    ),
    "a bin of three digits": (
        f"{BOX_A[:27]}<loc646> cat",
        [rest("<loc646> is none of the 1024 places")],
    ),
    "a bin of five digits": (
        f"{BOX_A[:27]}<loc00646> cat",
        [rest("<loc00646> is none of the 1024 places")],
    ),
    "a place that does not close": (
        f"{BOX_A[:27]}<loc0646 cat",
        [rest("<loc0646 is none of the 1024 places")],
    ),
    "a place that runs into the label": (
        f"{BOX_A[:27]}<loc0646cat",
        [rest("<loc0646 is none of the 1024 places")],
    ),
    "a place without a number": (
        "<loc> cat",
        [rest("<loc> is none of the 1024 places")],
    ),
    "upside down": (
        f"{box_tokens((708, 309, 51, 646))} cat",
        [(("cat", (708, 309, 51, 646), ()), NO_AREA)],
    ),
    "right to left": (
        f"{box_tokens((51, 646, 708, 309))} cat",
        [(("cat", (51, 646, 708, 309), ()), NO_AREA)],
    ),
    "a line lying down": (
        f"{box_tokens((51, 309, 51, 646))} cat",
        [(("cat", (51, 309, 51, 646), ()), NO_AREA)],
    ),
    "a line upright": (
        f"{box_tokens((51, 309, 708, 309))} cat",
        [(("cat", (51, 309, 708, 309), ()), NO_AREA)],
    ),
    "said twice": (f"{BOX_A} cat ; {BOX_A} cat", [cat(), cat(reason=AGAIN)]),
    "said again later": (
        f"{BOX_A} cat ; {BOX_B} dog ; {BOX_A} cat",
        [cat(), dog(), cat(reason=AGAIN)],
    ),
    "said until the end": (
        f"{BOX_A} cat ; " * 5 + BOX_A[:18],
        [cat(), *[cat(reason=AGAIN)] * 4, rest("cut off after 2 of 4 places")],
    ),
    "empty and said twice": (
        f"{box_tokens((5, 5, 5, 5))} cat;" * 2,
        [
            (("cat", (5, 5, 5, 5), ()), NO_AREA),
            (("cat", (5, 5, 5, 5), ()), f"{NO_AREA}; {AGAIN}"),
        ],
    ),
    "fifteen codes": (
        f"{BOX_A}{SEGS[:-8]} cat",
        [cat(reason="expected 16 mask codes, found 15")],
    ),
    "seventeen codes": (
        f"{BOX_A}{SEGS}<seg001> cat",
        [cat(reason="expected 16 mask codes, found 17")],
    ),
    "a code too high": (
        f"{BOX_A}{SEGS[:-8]}<seg128> cat",
        [cat(reason="<seg128> is none of the 128 mask codes")],
    ),
    "a code of two digits": (
        f"{BOX_A}{SEGS[:-8]}<seg12> cat",
        [cat(reason="<seg12> is none of the 128 mask codes")],
    ),
    "a code of four digits": (
        f"{BOX_A}{SEGS[:-8]}<seg0012> cat",
        [cat(reason="<seg0012> is none of the 128 mask codes")],
    ),
    "codes without a box": (f"{SEGS} cat", [rest("mask codes without a box")]),
    "codes behind the label": (
        f"{BOX_A} cat{SEGS}",
        [cat(), rest("mask codes without a box")],
    ),
    "codes and three places": (
        f"{BOX_A[9:]}{SEGS} cat",
        [rest("expected 4 places, found 3")],
    ),
    "cut off after two places": (BOX_A[:18], [rest("cut off after 2 of 4 places")]),
    "cut off within a place": (BOX_A[:-4], [rest("cut off after 3 of 4 places")]),
    "cut off before a place closes": (
        BOX_A[:-1],
        [rest("cut off after 3 of 4 places")],
    ),
    "cut off as a place begins": (BOX_A[:30], [rest("cut off after 3 of 4 places")]),
    "cut off within a fifth place": (
        f"{BOX_A}<loc00",
        [rest("expected 4 places, found 5")],
    ),
    "cut off within a seventeenth code": (
        f"{BOX_A}{SEGS}<seg",
        [cat(reason="expected 16 mask codes, found 17", label="")],
    ),
    "cut off in the second object": (
        f"{BOX_A} cat ; {BOX_B[:11]}",
        [cat(), rest("cut off after 1 of 4 places")],
    ),
    "cut off in the second object's first letters": (
        f"{BOX_A} cat ; <lo",
        [cat(), rest(CUT)],
    ),
    "cut off after nine codes": (
        f"{BOX_A}{SEGS[:72]}",
        [cat(reason="cut off after 9 of 16 mask codes", label="")],
    ),
    "cut off within a code": (
        f"{BOX_A}{SEGS[:77]}",
        [cat(reason="cut off after 9 of 16 mask codes", label="")],
    ),
    "cut off as the codes begin": (f"{BOX_A}<se", [cat(reason=CUT, label="")]),
    "cut off, of two faults the first": (
        f"<loc2000>{BOX_A[:9]}",
        [rest("<loc2000> is none of the 1024 places")],
    ),
    "ended after two places": (
        f"{BOX_A[:18]}<eos>",
        [rest("expected 4 places, found 2")],
    ),
    "ended after nine codes": (
        f"{BOX_A}{SEGS[:72]}<eos>",
        [cat(reason="expected 16 mask codes, found 9", label="")],
    ),
}
ANSWERS = GOOD | BAD


def told(part: Detection | Fragment) -> Part:
    if isinstance(part, Fragment):
        return None, part.reason
    return (part.label, part.bins, part.codes), part.reason


def test_there_are_enough_answers() -> None:
    assert len(PLAIN) + len(GOOD) + len(BAD) >= 80


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_is_read_as_this(case: str) -> None:
    text, expected = ANSWERS[case]
    parts = parse_answer(text)
    assert [told(part) for part in parts] == expected
    assert "".join(part.text for part in parts) == text


@pytest.mark.parametrize("case", PLAIN)
def test_an_answer_that_is_no_detection_has_no_fault(case: str) -> None:
    assert parse_answer(PLAIN[case]) == [Fragment(PLAIN[case])]


def test_an_empty_answer_has_no_parts() -> None:
    assert parse_answer("") == []


PIECES = [
    *[BOX_A, BOX_B, BOX_A[:9], BOX_A[:18], BOX_A[:-3], SEGS, SEGS[:8], SEGS[:-2]],
    *["<loc1024>", "<loc", "<lo", "<seg200>", "<s", "<", ">", "<eos>", "<pad>"],
    *[
        " ",
        ";",
        " ; ",
        "\n",
        "\r\n",
        "cat",
        "dog's",
        "日本",
        "\u2028",
        "\x00",
        "\ud800",
    ],
]
answers = st.one_of(
    st.text(), st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
)


@given(answers)
@example("<loc" * 2000)
@example(" " * 20000 + "<seg")
@example("<seg" * 2000 + " ")
def test_no_text_raises_and_the_parts_joined_are_the_text(text: str) -> None:
    parts = parse_answer(text)
    assert "".join(part.text for part in parts) == text
    assert all(part.text for part in parts)


@given(answers)
def test_whatever_is_no_object_and_not_blank_has_a_reason(text: str) -> None:
    parts = parse_answer(text)
    if parts == [Fragment(text)]:
        return  # the answer is plain
    for part in parts:
        left = part.text
        for blank in [";", "<eos>", "<bos>", "<pad>"]:
            left = left.replace(blank, "")
        assert isinstance(part, Detection) or bool(part.reason) == bool(left.strip())


bins = st.tuples(*[st.integers(0, 1023)] * 4)
# labels that stay labels: no token in them, nothing to part them, no space about them
labels = st.text(max_size=12).filter(
    lambda text: text == text.strip() and not set(text) & set("<;\n\r")
)
codes = st.one_of(st.just(()), st.tuples(*[st.integers(0, 127)] * 16))
objects = st.lists(
    st.tuples(labels, bins, codes), max_size=6, unique_by=lambda x: x[:2]
)


@given(objects, st.sampled_from([" ; ", ";", "\n"]))
def test_what_is_written_is_read_back(
    said: list[tuple[str, tuple[int, int, int, int], tuple[int, ...]]], between: str
) -> None:
    spelt = [
        f"{box_tokens(box)}{''.join(f'<seg{c:03d}>' for c in mask)} {label}".rstrip()
        for label, box, mask in said
    ]
    parts = parse_answer(between.join(spelt))
    assert [told(part)[0] for part in parts] == said
    assert {part.reason for part in parts} <= {"", NO_AREA}


# --- the scale ------------------------------------------------------------------------

sizes = st.tuples(st.integers(1, 20_000), st.integers(1, 20_000))


def test_the_corners_of_the_picture_are_the_first_and_the_last_bin() -> None:
    assert box_in_pixels((0, 0, 1023, 1023), (641, 479)) == (0, 0, 641, 479)
    assert box_in_pixels((0, 0, 1023, 1023), (2048, 1024), scale=1024) == (
        *(0, 0),
        *(2046, 1023),
    )


def test_places_are_written_top_left_bottom_right() -> None:
    assert box_in_pixels((1, 2, 3, 4), (1023, 2046)) == (2, 2, 4, 6)
    assert bins_of_box((2, 2, 4, 6), (1023, 2046)) == (1, 2, 3, 4)
    assert box_tokens((1, 2, 3, 1023)) == "<loc0001><loc0002><loc0003><loc1023>"


@given(bins, sizes, st.sampled_from(BOX_SCALES))
def test_bins_survive_a_trip_to_pixels(
    there: tuple[int, int, int, int], size: tuple[int, int], scale: int
) -> None:
    box = box_in_pixels(there, size, scale=scale)
    assert bins_of_box(box, size, scale=scale) == there


@given(st.tuples(*[st.floats(0, 1)] * 4), sizes)
def test_a_box_survives_a_trip_to_bins_within_half_a_bin(
    shares: tuple[float, ...], size: tuple[int, int]
) -> None:
    a, b, c, d = (s * side for s, side in zip(shares, size * 2, strict=True))
    back = box_in_pixels(bins_of_box((a, b, c, d), size), size)
    for before, after, side in zip((a, b, c, d), back, size * 2, strict=True):
        assert abs(before - after) <= side / 1023 / 2 * (1 + 1e-9)


@given(st.tuples(*[st.floats(0, 1)] * 4), sizes)
def test_by_1024_it_is_up_to_a_whole_bin_too_low(
    shares: tuple[float, ...], size: tuple[int, int]
) -> None:
    a, b, c, d = (s * side for s, side in zip(shares, size * 2, strict=True))
    back = box_in_pixels(bins_of_box((a, b, c, d), size, scale=1024), size, scale=1024)
    for before, after, side in zip((a, b, c, d), back, size * 2, strict=True):
        assert -1e-9 * side <= before - after <= side / 1024 * (1 + 1e-9)


@pytest.mark.parametrize("scale", BOX_SCALES)
def test_what_is_outside_the_picture_is_clipped(scale: int) -> None:
    whole = bins_of_box((-5.0, -1e9, 700.0, 1e9), (640, 480), scale=scale)
    assert whole == (0, 0, 1023, 1023)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_place_that_is_no_number_is_not_written(bad: float) -> None:
    with pytest.raises((ValueError, OverflowError)):
        bins_of_box((0.0, 0.0, bad, 5.0), (640, 480))
