"""Where an answer's time goes: told apart by taps, adding up, and never on stdout."""

import json
import re
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from command_line import Command, Ran, assert_one_line
from golden_line import NAMES, load_golden
from hypothesis import given
from hypothesis import strategies as st

from numpy_paligemma import PaliGemma, load_hf_model
from numpy_paligemma.checkpoints.taps import every_tap
from numpy_paligemma.commands import stopwatch
from numpy_paligemma.commands.stopwatch import Stopwatch
from numpy_paligemma.model.tap import recorder
from numpy_paligemma.traces import profile_table as tables
from numpy_paligemma.traces.profile import (
    DECODE,
    HEAD,
    KINDS,
    LOAD,
    MLP,
    OTHER,
    PICTURE,
    PREFILL,
    PROJECTIONS,
    PROJECTOR,
    SAMPLING,
    STAGES,
    VISION,
    Profile,
    Row,
)
from numpy_paligemma.traces.profile_table import Limits, profile_table

LIMITS = Limits(100e9, 20e9)
Inputs = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def asked(tiny_folder: Path) -> tuple[PaliGemma, Inputs]:
    """Ask two things, of two pictures, in a batch with padding."""
    model, processor = load_hf_model(tiny_folder, device="cpu")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 16, 18, 3), np.uint8)
    return model, processor(["caption en", "ocr"], list(pictures))


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Stop the clock, which then goes on by hand."""
    now = [1000.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def pass_by(seconds: float) -> None:
        now[0] += seconds

    return pass_by


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure nothing: a second for each test is too much."""
    monkeypatch.setattr(tables, "measure_limits", lambda: LIMITS)


def seconds(profile: Profile) -> dict[tuple[str, str], float]:
    return {(row.stage, row.kind): row.seconds for row in profile.rows()}


# --- what is timed --------------------------------------------------------------------


def test_the_time_between_two_taps_belongs_to_the_later_one(
    asked: tuple[PaliGemma, Inputs], ticking: Callable[[float], None]
) -> None:
    model, _ = asked
    profile = Profile()
    ticking(16)  # nobody's
    with profile.timed(LOAD):
        ticking(32)
    ticking(64)  # nobody's
    shown, _ = recorder()

    def slow(name: str, x: np.ndarray) -> np.ndarray:
        ticking(128)  # somebody else's, who looks on
        return shown(name, x)

    tap, x = profile.tap(model, slow), np.zeros((2, 5, 10), np.float32)
    ticking(1)
    assert tap("decoder/block00/mlp/out", x) is x
    ticking(2)
    tap("decoder/block01/mlp/out", x)
    ticking(4)
    tap("decoder/block01/attention/v_proj", x)
    assert seconds(profile) == {
        (LOAD, ""): 32,
        (PREFILL, MLP): 3,
        (PREFILL, PROJECTIONS): 4,
        (OTHER, ""): 16 + 64 + 3 * 128,
    }


def test_what_follows_logits_is_the_draw(
    asked: tuple[PaliGemma, Inputs], ticking: Callable[[float], None]
) -> None:
    model, _ = asked
    profile = Profile()
    tap, new = profile.tap(model), np.zeros((2, 1, 10), np.float32)
    tap("logits", np.zeros((2, 2059), np.float32))
    ticking(1)
    tap("decoder/embed", new)  # as `generate` goes on
    ticking(2)
    tap("logits", np.zeros((2, 2059), np.float32))

    def steps() -> Iterator[np.ndarray]:
        ticking(4)
        yield np.zeros(1)

    for _ in profile.tokens(steps()):
        ticking(8)  # the caller's own
    ticking(16)
    tap("decoder/embed", new)
    assert seconds(profile) == {
        (PREFILL, HEAD): 0,
        (DECODE, "embed"): 16,
        (DECODE, HEAD): 2,
        (SAMPLING, ""): 5,
        (OTHER, ""): 8,
    }


@pytest.mark.parametrize("family", NAMES)
def test_every_tap_has_its_place(family: str) -> None:
    golden = load_golden(family)
    profile = Profile()
    tap = profile.tap(golden.model)
    names = list(every_tap(golden.model.config))
    for name in names:
        tap(name, np.zeros((1, 4, 5, 6)))
    assert sum(row.calls for row in profile.rows()) == len(names)


def test_a_profile_adds_up_and_leaves_the_answer_alone(
    asked: tuple[PaliGemma, Inputs],
) -> None:
    model, inputs = asked
    options = {"max_new_tokens": 4, "seed": 3, "eos_token_id": -1}
    plain = model.generate(**inputs, **options)
    start = time.perf_counter()
    profile = Profile()
    watched = model.generate(**inputs, **options, tap=profile.tap(model))
    rows = profile.rows()
    wall = time.perf_counter() - start
    np.testing.assert_array_equal(watched, plain)
    total = sum(row.seconds for row in rows)
    assert 0 < total <= wall
    assert all(row.seconds >= 0 for row in rows)
    calls = {(row.stage, row.kind): row.calls for row in rows}
    assert [row.stage for row in rows] == sorted(
        (row.stage for row in rows), key=STAGES.index
    )
    assert calls[VISION, MLP] == 2
    assert calls[PREFILL, MLP] == 3
    assert calls[DECODE, MLP] == 3 * 3
    assert calls[SAMPLING, ""] == 3  # the fourth has no tap behind it


def test_a_look_alone_has_no_decoder(asked: tuple[PaliGemma, Inputs]) -> None:
    model, inputs = asked
    profile = Profile()
    model.look(inputs["pixel_values"], profile.tap(model))
    assert {row.stage for row in profile.rows()} == {VISION, PROJECTOR, OTHER}
    assert "ms/token" in profile_table(profile)


# --- the table ------------------------------------------------------------------------


def fixed(rows: list[Row]) -> Profile:
    profile = Profile()
    profile.rows = lambda: rows
    return profile


def shares(table: str) -> list[tuple[str, int]]:
    """Read labels and shares, in tenths of a percent."""
    found = re.findall(r"^( *\w.*?)  +[\d.]+ +(\d+\.\d) %", table, re.MULTILINE)
    return [(label, int(share.replace(".", ""))) for label, share in found]


ROWS = st.lists(
    st.builds(
        Row, st.sampled_from(STAGES), st.sampled_from(KINDS), st.floats(1e-9, 1e3)
    ),
    min_size=1,
    max_size=40,
    unique_by=lambda row: (row.stage, row.kind),
)


@given(ROWS)
def test_shares_add_up_to_a_hundred_whatever_is_rounded(rows: list[Row]) -> None:
    rows.sort(key=lambda row: (STAGES.index(row.stage), KINDS.index(row.kind)))
    found = shares(profile_table(fixed(rows)))
    assert found.pop() == ("total", 1000)
    assert sum(share for label, share in found if not label.startswith(" ")) == 1000
    total = sum(row.seconds for row in rows)
    for stage in {row.stage for row in rows}:
        i = [label for label, _ in found].index(stage)
        kinds = [row for row in rows if row.stage == stage and row.kind]
        parts = found[i + 1 : i + 1 + len(kinds)]
        assert [label for label, _ in parts] == [f"  {row.kind}" for row in kinds]
        for row, (_, share) in zip(kinds, parts, strict=True):
            assert abs(share - 1000 * row.seconds / total) < 1.01


def test_columns_stand_under_each_other_from_microseconds_to_an_hour() -> None:
    rows = [
        Row(LOAD, "", 1e-5, 1),
        Row(VISION, MLP, 1234.56789, 12345, 10**15, 10**12),
        Row(DECODE, MLP, 3600.0, 7, 10**3, 10**13),
        Row(DECODE, HEAD, 0.25, 2, 10**9, 10**9),
        Row(OTHER, "", 0.0),
    ]
    header, *lines = profile_table(fixed(rows)).split("\n\n")[0].split("\n")
    ends = [header.index(name) + len(name) for name in tables.HEADER[1:]]
    cells = [[line[a:b] for a, b in pairwise([len(DECODE), *ends])] for line in lines]
    assert [cell[0].strip() for cell in cells] == [
        *["0.00001", "1234.56789", "1234.56789"],
        *["3600.25000", "3600.00000", "0.25000", "0.00000", "4834.81790"],
    ]
    for cell in (cell for line in cells for cell in line if cell):
        assert cell.startswith(" ")
        assert not cell.strip() or not cell.endswith(" ")


def test_a_clock_too_coarse_for_anything_divides_nothing_by_nought() -> None:
    table = profile_table(fixed([Row(VISION, MLP, 0.0, 1, 5, 5), Row(OTHER)]))
    assert shares(table)[-1] == ("total", 0)


def test_rates_are_held_against_the_limits() -> None:
    rows = [
        Row(VISION, MLP, 2.0, 1, 50 * 10**9, 10**9),  # 25 of 100 GFLOP/s
        Row(DECODE, MLP, 2.0, 3, 2 * 10**9, 20 * 10**9),  # 10 of 20 GB/s
        Row(DECODE, HEAD, 1.0, 1, 2 * 10**9, 5 * 10**9),  # 5 of 20
    ]
    lines = profile_table(fixed(rows)).splitlines()
    assert [line.split()[-3:] for line in lines[1:3]] == [["25.0", "0.50", "25%"]] * 2
    assert [line.split()[-4:] for line in lines[3:6]] == [
        ["1.3", "8.33", "42%", "3000.000"],
        ["1.0", "10.00", "50%", "2000.000"],
        ["2.0", "5.00", "25%", "1000.000"],
    ]
    assert lines[6].split()[-1] == "35%"  # 0.5 + 1 + 0.25 of 5 seconds
    assert "limits: 100.0 GFLOP/s" in lines[-2]
    assert "20.0 GB/s" in lines[-2]


# --- the command ----------------------------------------------------------------------


@pytest.fixture
def ask(command: Command, tiny_folder: Path, picture: Path) -> Callable[..., Ran]:
    words = ["--model", tiny_folder, "--image", picture, "--no-sample"]
    return lambda *more: command(*words, "--device", "cpu", *more)


def calls(ran: Ran) -> dict[str, int]:
    """Read the calls of each stage."""
    found = re.findall(
        r"^(\w[\w, ]*?)  +[\d.]+ +[\d.]+ % +(\d+)", ran.err, re.MULTILINE
    )
    return {label: int(number) for label, number in found}


def test_the_answer_stays_alone_on_stdout(ask: Callable[..., Ran]) -> None:
    plain = ask("--prompt", "ocr")
    ran = ask("--prompt", "ocr", "--profile")
    assert (ran.status, ran.out) == (0, plain.out)
    assert not plain.err
    assert list(calls(ran)) == [
        *[LOAD, PICTURE, VISION, PROJECTOR, PREFILL, DECODE, SAMPLING, "total"]
    ]
    assert shares(ran.err)[-1] == ("total", 1000)


def test_json_stays_alone_on_stdout(ask: Callable[..., Ran]) -> None:
    ran = ask("--prompt", "ocr", "--prompt", "caption en", "--profile", "--json")
    assert [json.loads(line)["prompt"] for line in ran.out.splitlines()] == [
        "ocr",
        "caption en",
    ]
    assert calls(ran)[SAMPLING] > 0


def test_several_prompts_take_one_look(ask: Callable[..., Ran]) -> None:
    new = ["--max-new-tokens", "3", "--profile"]
    one = calls(ask("--prompt", "ocr", *new))
    two = calls(ask("--prompt", "ocr", "--prompt", "caption en", *new))
    assert two[VISION] == one[VISION]
    assert two[PREFILL] == 2 * one[PREFILL]
    assert two[PICTURE] == 3  # read, and made ready for each prompt
    assert one[SAMPLING] <= 3


def test_one_token_decodes_nothing_and_none_reads_nothing(
    ask: Callable[..., Ran],
) -> None:
    one = calls(ask("--prompt", "ocr", "--max-new-tokens", "1", "--profile"))
    assert (one[SAMPLING], DECODE in one) == (1, False)
    none = calls(ask("--prompt", "ocr", "--max-new-tokens", "0", "--profile"))
    assert list(none) == [LOAD, PICTURE, VISION, PROJECTOR, "total"]


def test_the_demo_tells_its_time_too(command: Command) -> None:
    ran = command("demo", "--profile")
    assert ran.out == command("demo").out
    assert shares(ran.err)[-1] == ("total", 1000)


def test_a_gpu_is_not_timed_by_the_processors_clock(
    ask: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopwatch, "choose_device", lambda _: "cuda")
    ran = ask("--prompt", "ocr", "--profile")
    assert_one_line(ran, 1)
    assert "--profile times the processor" in ran.err


def test_nothing_is_between_model_and_caller_when_it_is_off(
    asked: tuple[PaliGemma, Inputs],
) -> None:
    watch = Stopwatch("cpu", wanted=False)
    tap, _ = recorder()
    steps = iter([np.zeros(1)])
    assert watch.tap(asked[0], tap) is tap
    assert watch.tokens(steps) is steps


def test_the_next_part_of_a_prefill_is_not_the_draw(
    asked: tuple[PaliGemma, Inputs],
) -> None:
    tap = (profile := Profile()).tap(asked[0])
    embedded = np.zeros((1, 5, asked[0].config.text.width), np.float32)
    tap("logits", np.zeros((1, asked[0].config.text.vocab_size), np.float32))
    tap("decoder/embed", embedded)
    assert "sampling" not in [row.stage for row in profile.rows()]
