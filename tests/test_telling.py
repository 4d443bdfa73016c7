"""Answers told: as JSON, as a picture, as warnings; and the demo."""

import io
import json
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from command_line import Command, assert_one_line
from hypothesis import given
from hypothesis.extra import numpy as hnp
from PIL import Image
from random_mask_decoders import PUBLISHED, random_arrays
from tolerances import README_PICTURE

from numpy_paligemma.answers.detection import box_in_pixels, box_tokens, parse_answer
from numpy_paligemma.answers.drawing import draw_things, encode
from numpy_paligemma.answers.paste import paste_mask
from numpy_paligemma.answers.reading import read_answer, run_lengths
from numpy_paligemma.answers.segmentation import decode_masks
from numpy_paligemma.checkpoints.hub import bundled
from numpy_paligemma.checkpoints.mask_decoder import load_mask_decoder
from numpy_paligemma.commands import demo
from numpy_paligemma.commands.options import parse
from numpy_paligemma.commands.telling import Teller
from numpy_paligemma.commands.things import choose_decoder
from numpy_paligemma.inputs.image import load_image

WEIGHTS = Path(__file__).parents[1] / "weights"
PAPER = WEIGHTS / "samples" / "paper.jpg"
ASK = ["--model", "miniature", "--image", PAPER, "--no-sample", "--device", "cpu"]
CIRCLE = [36, 105, 237, 297]  # what weights/samples/answers.json knows
A, B = (51, 309, 708, 646), (0, 7, 1023, 900)
CODES = tuple(range(0, 128, 8))
SEGS = "".join(f"<seg{code:03d}>" for code in CODES)


@pytest.fixture(scope="session")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a random mask decoder whose masks are about half inside."""
    path = tmp_path_factory.mktemp("decoder") / "vae-oid.npz"
    arrays = random_arrays(PUBLISHED)
    np.savez(path, **arrays)
    middle = decode_masks(np.array([CODES]), load_mask_decoder(path)).mean()
    arrays["decoder.12.bias"] -= middle
    np.savez(path, **arrays)
    return path.parent


Told = Callable[..., str]


@pytest.fixture
def told(picture: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Told:
    """Tell an answer as the command would, once it has it: what goes to stdout."""

    def tell(said: str, *options: str | Path, model: Path = tmp_path) -> str:
        words = ["--image", picture, "--prompt", "detect cat", "--model", model]
        args = parse([str(word) for word in [*words, *options]])
        capsys.readouterr()
        teller = Teller(args, load_image(picture))
        teller.tell("detect cat", said, model)
        teller.draw()
        return capsys.readouterr().out

    return tell


@pytest.fixture
def notes(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Collect what goes to stderr, line by line."""
    caplog.set_level(logging.INFO, "numpy_paligemma")
    return lambda: caplog.messages


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir())


# --- JSON -----------------------------------------------------------------------------


def test_json_is_one_object_on_stdout_and_nothing_else(command: Command) -> None:
    ran = command(*ASK, "--prompt", "detect red circle", "--json")
    assert (ran.status, ran.err) == (0, "")
    found = json.loads(ran.out)
    assert ran.out.count("\n") == 1
    assert list(found) == [
        *["model", "prompt", "image", "answer", "size", "objects", "faults"]
    ]
    assert (found["model"], found["prompt"]) == ("miniature", "detect red circle")
    assert (found["image"], found["size"]) == (str(PAPER), [640, 640])
    (circle,) = found["objects"]
    assert list(circle) == ["label", "box", "bins"]
    assert circle["label"] == "red circle"
    np.testing.assert_allclose(circle["box"], CIRCLE, atol=6)  # of 640
    assert box_tokens(tuple(circle["bins"])) + " red circle" == found["answer"]
    assert found["faults"] == []


def test_several_prompts_give_a_line_each_and_one_drawing(
    command: Command, tmp_path: Path
) -> None:
    both = ["--prompt", "detect red circle", "--prompt", "detect blue star"]
    ran = command(*ASK, *both, "--json", "--draw", tmp_path / "both.png")
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert [line["prompt"] for line in lines] == both[1::2]
    labels = [thing["label"] for line in lines for thing in line["objects"]]
    assert labels == ["red circle", "blue star"]
    (tmp_path / "one.png").write_bytes(b"")
    command(*ASK, *both[:2], "--draw", tmp_path / "one.png")
    with Image.open(tmp_path / "both.png") as b, Image.open(tmp_path / "one.png") as a:
        assert np.any(np.asarray(a) != np.asarray(b))


def test_an_answer_in_json_is_the_one_that_is_streamed(command: Command) -> None:
    words = [*ASK, "--prompt", "caption en"]
    found = json.loads(command(*words, "--json").out)
    assert found["answer"] + "\n" == command(*words).out
    assert (found["objects"], found["faults"]) == ([], [])


def test_boxes_are_in_pixels_of_the_original_picture(told: Told) -> None:
    found = json.loads(told(f"{box_tokens(A)} cat", "--json"))
    assert found["size"] == [30, 20]  # width, height
    expected = [309 * 30 / 1023, 51 * 20 / 1023, 646 * 30 / 1023, 708 * 20 / 1023]
    assert found["objects"][0]["box"] == [round(at, 2) for at in expected]
    assert found["objects"][0]["bins"] == list(A)


def test_the_box_scale_may_be_the_other(told: Told) -> None:
    found = json.loads(
        told(box_tokens((0, 0, 1023, 1023)), "--json", "--box-scale", "1024")
    )
    assert found["objects"][0]["box"] == [0, 0, 29.97, 19.98]


def test_labels_come_through_in_ascii(told: Told) -> None:
    out = told(f"{box_tokens(A)} 日本の猫 \"quoted\" \\ 'x'", "--json")
    assert out.isascii()
    assert json.loads(out)["objects"][0]["label"] == "日本の猫 \"quoted\" \\ 'x'"


def test_faults_are_in_json_and_a_line_each_on_stderr(
    told: Told, notes: Callable[[], list[str]]
) -> None:
    cat, dog = f"{box_tokens(A)} cat", f"{box_tokens(B)} dog"
    answer = f"well\n{cat} ; {cat} ; {cat} ; <loc0001> ; {dog} ; {box_tokens(A)[:18]}"
    found = json.loads(told(answer, "--json"))
    assert [thing["label"] for thing in found["objects"]] == ["cat"] * 3 + ["dog"]
    assert [fault["reason"] for fault in found["faults"]] == [
        "text without a box",
        "repeats an earlier box",
        "repeats an earlier box",
        "expected 4 places, found 1",
        "cut off after 2 of 4 places",
    ]
    assert found["faults"][0]["text"] == "well\n"
    assert notes() == [
        "warning: in the answer, 'well': text without a box",
        f"warning: in the answer, '{cat} ;': repeats an earlier box (2 times)",
        "warning: in the answer, '<loc0001> ;': expected 4 places, found 1",
        "warning: in the answer, '<loc0051><loc0309>': cut off after 2 of 4 places",
    ]


def test_a_fault_with_newlines_in_it_is_one_line(
    told: Told, notes: Callable[[], list[str]]
) -> None:
    told(f"a\u2028b{'c' * 500} {box_tokens(A)}", "--json")
    (line,) = notes()
    assert line.isprintable()
    assert len(line) < 130


# --- masks ----------------------------------------------------------------------------


def test_masks_are_in_json_as_coco_writes_them(told: Told, decoder: Path) -> None:
    answer = f"{box_tokens(A)}{SEGS} cat ; {box_tokens(B)} dog"
    cat, dog = json.loads(told(answer, "--json", model=decoder))["objects"]
    assert "mask" not in dog
    weights = load_mask_decoder(decoder / "vae-oid.npz")
    mask = decode_masks(np.array([CODES]), weights)[0]
    expected = paste_mask(mask, box_in_pixels(A, (30, 20)), (30, 20))
    assert cat["mask"]["size"] == [20, 30]  # height, width
    np.testing.assert_array_equal(from_run_lengths(cat["mask"]), expected)
    assert 0 < expected.sum() < expected.size


def from_run_lengths(rle: dict[str, list[int]]) -> np.ndarray:
    height, width = rle["size"]
    inside = np.arange(len(rle["counts"])) % 2 == 1
    return np.repeat(inside, rle["counts"]).reshape(width, height).T


def test_run_lengths_go_down_the_columns_and_start_outside() -> None:
    mask = np.array([[0, 1, 1], [1, 1, 0]], bool)
    assert run_lengths(mask) == {"size": [2, 3], "counts": [1, 4, 1]}
    assert run_lengths(~mask)["counts"] == [0, 1, 4, 1]
    assert run_lengths(mask & False)["counts"] == [6]
    assert run_lengths(mask | True)["counts"] == [0, 6]


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_run_lengths_are_the_mask(mask: np.ndarray) -> None:
    rle = run_lengths(mask)
    assert all(rle["counts"][1:])
    np.testing.assert_array_equal(from_run_lengths(rle), mask)


def test_several_masks_go_to_their_own_boxes(told: Told, decoder: Path) -> None:
    other = SEGS[8:] + SEGS[:8]
    answer = (
        f"{box_tokens(B)} dog ; {box_tokens(A)}{SEGS} cat ; {box_tokens(B)}{other} x"
    )
    both = json.loads(told(answer, "--json", model=decoder))["objects"]
    for found, codes in zip(both[1:], [SEGS, other], strict=True):
        written = f"{box_tokens(found['bins'])}{codes} {found['label']}"
        alone = json.loads(told(written, "--json", model=decoder))["objects"]
        assert found == alone[0]


def test_without_a_mask_decoder_there_are_boxes_and_a_line(
    told: Told, notes: Callable[[], list[str]], tmp_path: Path
) -> None:
    out = tmp_path / "out.png"
    found = json.loads(told(f"{box_tokens(A)}{SEGS} cat", "--json", "--draw", out))
    assert "mask" not in found["objects"][0]
    assert out.is_file()
    line = notes()[0]
    assert line.startswith("warning: boxes without their masks: ")
    assert "--mask-decoder" in line


def test_a_damaged_mask_decoder_of_the_checkpoint_loses_no_answer(
    told: Told, notes: Callable[[], list[str]], tmp_path: Path
) -> None:
    (tmp_path / "vae-oid.npz").write_bytes(b"PK")
    found = json.loads(told(f"{box_tokens(A)}{SEGS} cat", "--json"))
    assert found["objects"][0]["label"] == "cat"
    assert len(notes()) == 1
    assert "vae-oid.npz" in notes()[0]


def test_a_mask_decoder_is_not_looked_for_without_codes(
    told: Told, notes: Callable[[], list[str]]
) -> None:
    told(f"{box_tokens(A)} cat", "--json")
    assert notes() == []


def test_a_mask_decoder_may_lie_elsewhere(told: Told, decoder: Path) -> None:
    where = ["--mask-decoder", decoder / "vae-oid.npz"]
    answer = f"{box_tokens(A)}{SEGS} cat"
    assert told(answer, "--json", *where) == told(answer, "--json", *where)
    assert "mask" in json.loads(told(answer, "--json", *where))["objects"][0]


def test_a_mask_decoder_is_loaded_once_from_beside_the_weights(
    decoder: Path, tmp_path: Path
) -> None:
    for name in ["", "checkpoint.npz"]:  # a folder, and big_vision's file in it
        model = tmp_path / f"model{name}"
        model.mkdir()
        shutil.copy(decoder / "vae-oid.npz", model)
        source = model / name
        if name:
            source.write_bytes(b"")
        load = choose_decoder(None)
        weights = load(source)
        (model / "vae-oid.npz").unlink()
        assert load(source) is weights


def test_in_python_masks_without_a_decoder_are_boxes_and_a_reason() -> None:
    reading = read_answer(f"{box_tokens(A)}{SEGS} cat", (30, 20))
    assert reading.things[0].mask is None
    assert reading.unmasked == "no mask decoder was given"
    assert read_answer("a cat", (30, 20)).unmasked == ""


@pytest.mark.parametrize("content", [None, b"PK\x03\x04", b""])
def test_a_mask_decoder_that_was_asked_for_must_be_there(
    command: Command, picture: Path, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "decoder.npz"
    if content is not None:
        path.write_bytes(content)
    words = ["--model", "/no/such", "--image", picture, "--prompt", "segment cat"]
    ran = command(*words, "--json", "--mask-decoder", path)
    assert_one_line(ran, 1)
    assert str(path) in ran.err


# --- pictures -------------------------------------------------------------------------


def test_the_picture_is_drawn_and_the_answer_streamed_as_ever(
    command: Command, tmp_path: Path
) -> None:
    words = [*ASK, "--prompt", "detect red circle"]
    out = tmp_path / "out.png"
    ran = command(*words, "--draw", out)
    assert ran == command(*words)
    assert names(tmp_path) == ["out.png"]
    before, after = load_image(PAPER), load_image(out)
    reading = read_answer(ran.out.strip(), before.size, scale=1023, decoder=no_decoder)
    assert after.tobytes() == draw_things(before, reading.things).tobytes()
    assert after.tobytes() != before.tobytes()


def no_decoder() -> None:
    raise AssertionError


def test_json_and_picture_come_together(
    told: Told, decoder: Path, tmp_path: Path
) -> None:
    answer, out = f"{box_tokens(A)}{SEGS} cat", tmp_path / "out.png"
    both = told(answer, "--json", "--draw", out, model=decoder)
    assert both == told(answer, "--json", model=decoder)
    masked = out.read_bytes()
    assert told(f"{box_tokens(A)} cat", "--draw", out) == ""
    assert out.read_bytes() != masked


def test_a_small_picture_is_enlarged_with_a_word(
    told: Told, notes: Callable[[], list[str]], tmp_path: Path
) -> None:
    out = tmp_path / "out.png"
    told(f"{box_tokens(A)} cat", "--draw", out)
    assert load_image(out).size == (30 * 23, 20 * 23)
    assert notes() == [f"{out}: drawn 23 times as large, for the labels"]


@pytest.mark.parametrize(
    ("answer", "shown"),
    [("a cat", "'a cat'"), ("", "''"), ("<loc0001>", "'<loc0001>'")],
)
def test_an_answer_without_a_box_leaves_the_picture_and_is_shown(
    told: Told,
    notes: Callable[[], list[str]],
    tmp_path: Path,
    answer: str,
    shown: str,
) -> None:
    out = tmp_path / "out.png"
    told(answer, "--draw", out)
    assert load_image(out).size == (30 * 23, 20 * 23)
    line = f"{out}: the picture as it was, with no box in the answer: {shown}"
    assert line in notes()


def test_what_was_there_is_replaced_and_a_link_stays_one(
    told: Told, tmp_path: Path
) -> None:
    out, link = tmp_path / "out.png", tmp_path / "link.png"
    out.write_bytes(b"before")
    link.symlink_to(out)
    told(f"{box_tokens(A)} cat", "--draw", link)
    assert link.is_symlink()
    assert load_image(out).width == 30 * 23
    assert names(tmp_path) == ["link.png", "out.png", "picture.png"]


def folder(path: Path) -> str:
    (path / "folder.png").mkdir()
    return str(path / "folder.png")


def under_a_file(path: Path) -> str:
    (path / "file").write_bytes(b"")
    return str(path / "file" / "out.png")


def link_to_the_picture(path: Path) -> str:
    (path / "link.png").symlink_to(path / "picture.png")
    return str(path / "link.png")


TARGETS: dict[str, tuple[Callable[[Path], str], str]] = {
    "no ending": (lambda p: str(p / "out"), "expected a name that ends as a picture's"),
    "a dash": (lambda _: "-", "-: expected a name that ends as a picture's"),
    "a text file": (lambda p: str(p / "out.txt"), "expected a name that ends"),
    "an icon": (lambda p: str(p / "out.ico"), "ICO makes .* take another ending"),
    "black and white": (lambda p: str(p / "o.xbm"), "cannot be written as XBM"),
    "a folder": (folder, "expected a file to draw into, found a folder"),
    "no folder": (
        lambda p: str(p / "no" / "out.png"),
        r"cannot be written \(No such file or directory\); choose another place",
    ),
    "under a file": (under_a_file, r"cannot be written \(Not a directory\); choose"),
    "the picture": (lambda p: str(p / "picture.png"), "is the picture itself"),
    "a long name": (
        lambda p: str(p / f"{'x' * 300}.png"),
        r"cannot be written \(File name too long\); choose another place",
    ),
    "a link to it": (link_to_the_picture, "is the picture itself, which drawing would"),
}


@pytest.mark.parametrize("case", TARGETS)
def test_what_cannot_be_drawn_into_is_one_line_before_a_checkpoint_is_loaded(
    command: Command, picture: Path, tmp_path: Path, case: str
) -> None:
    make, why = TARGETS[case]
    before, target = picture.read_bytes(), make(tmp_path)
    there = sorted(tmp_path.rglob("*"))
    words = ["--model", "/no/such", "--image", picture, "--prompt", "ocr"]
    ran = command(*words, "--draw", target)
    assert_one_line(ran, 1)
    assert re.search(why, ran.err), ran.err
    assert sorted(tmp_path.rglob("*")) == there
    assert picture.read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_full_disk_is_one_line_and_keeps_what_was_there(
    told: Told, tmp_path: Path
) -> None:
    out = tmp_path / "out.png"
    told("a cat", "--draw", out)
    before = out.read_bytes()
    words = [
        sys.executable,
        "-m",
        "numpy_paligemma",
        *map(str, ASK),
        "--draw",
        str(out),
    ]
    limited = ["sh", "-c", 'ulimit -f 4; exec "$@"', "sh", *words, "--prompt", "ocr"]
    ran = subprocess.run(limited, capture_output=True, timeout=60, check=False)
    line = ran.stderr.decode()
    assert ran.returncode == 1
    assert line.count("\n") == 1
    assert re.match(r"error: .*out\.png: cannot be written \(File too large\)", line)
    assert out.read_bytes() == before
    assert names(tmp_path) == ["out.png", "picture.png"]


def test_a_failing_checkpoint_prints_no_json(
    command: Command, picture: Path, tmp_path: Path
) -> None:
    words = ["--model", "/no/such", "--image", picture, "--prompt", "ocr", "--json"]
    ran = command(*words, "--draw", tmp_path / "out.png")
    assert_one_line(ran, 1)
    assert names(tmp_path) == ["picture.png"]


USAGE: dict[str, tuple[list[str], str]] = {
    "no use for a decoder": (["--mask-decoder", "x"], "--mask-decoder does nothing"),
    "no use for a scale": (["--box-scale=1023"], "--box-scale does nothing without"),
    "an empty name": (["--draw", ""], "expected a file's name, found ''"),
    "two pictures": (["--image", "-", "--image", "-"], "standard input is one picture"),
}


@pytest.mark.parametrize("case", USAGE)
def test_what_cannot_be_meant_is_a_usage_error(command: Command, case: str) -> None:
    words, why = USAGE[case]
    ran = command(*ASK, "--prompt", "ocr", *words)
    assert (ran.status, ran.out) == (2, "")
    assert why in ran.err.splitlines()[-1]


def test_an_object_that_is_odd_says_so_itself(told: Told) -> None:
    flat = box_tokens((5, 5, 5, 5))
    answer = f"{flat} cat ; {box_tokens(A)}<seg001> dog ; {box_tokens(B)} cow"
    found = json.loads(told(answer, "--json"))
    reasons = [thing.get("reason") for thing in found["objects"]]
    assert reasons == ["a box without area", "expected 16 mask codes, found 1", None]
    assert [fault["reason"] for fault in found["faults"]] == reasons[:2]


def test_without_either_an_answer_is_not_looked_at(command: Command) -> None:
    cut_off = ["--prompt", "detect red circle", "--max-new-tokens", "3"]
    ran = command(*ASK, *cut_off)
    assert (ran.status, ran.err) == (0, "")
    assert any(part.reason for part in parse_answer(ran.out.strip()))
    assert command(*ASK, *cut_off, "--json").err.startswith("warning: in the")


# --- the demo -------------------------------------------------------------------------


def recorded() -> dict[str, str]:
    """Read what the miniature said of the sample when the README's picture was made."""
    lines = (WEIGHTS / "samples" / "answer.jsonl").read_text("utf-8").splitlines()
    return {told["prompt"]: told["answer"] for told in map(json.loads, lines)}


def test_the_demo_tells_what_there_is_and_where_and_draws_it(
    command: Command, tmp_path: Path
) -> None:
    out = tmp_path / "answer.jpg"
    ran = command("demo", "--draw", out)
    assert ran.status == 0
    caption, *where = ran.out.splitlines()
    assert caption == recorded()["caption en"]
    for line, prompt in zip(where, demo.WHERE, strict=True):
        label = prompt.split(maxsplit=1)[1]
        assert re.fullmatch(rf"{label} at \d+, \d+ – \d+, \d+", line)
        assert label in caption
    # which model and picture, and the prompts
    assert [line.strip(":") for line in ran.err.splitlines()[1:]] == [
        demo.CAPTION,
        *demo.WHERE,
    ]
    assert_the_readmes_first_picture(out.read_bytes())


def test_the_recorded_answers_make_the_readmes_first_picture() -> None:
    picture, things = load_image(bundled("sample.jpg")), []
    decoder = partial(choose_decoder(None), bundled("miniature"))
    for prompt in demo.WHERE:
        said = recorded()[prompt]
        things += read_answer(said, picture.size, scale=1023, decoder=decoder).things
    assert_the_readmes_first_picture(encode(draw_things(picture, things), "a.jpg"))


def assert_the_readmes_first_picture(data: bytes) -> None:
    path = WEIGHTS / "samples" / "answer.jpg"
    assert path.stat().st_size < 200_000
    found, expected = (
        np.asarray(Image.open(file)).astype(int) for file in (io.BytesIO(data), path)
    )
    assert np.abs(found - expected).mean() < README_PICTURE


def test_the_demo_refuses_what_it_cannot_draw_into(command: Command) -> None:
    assert_one_line(command("demo", "--draw", "answer.txt"), 1)
    assert command("demo", "stray").status == 2
