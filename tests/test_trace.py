"""Traces: what is in the file, that nothing is held, and what is refused."""

import json
import re
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Command, assert_one_line
from fake_device import DeviceArray
from golden_line import GOLDEN, load_golden
from safetensors.numpy import load_file
from tiny import random_tensors, write_checkpoint
from tolerances import FLOAT64, relative_error

from numpy_paligemma import PaliGemma, load_hf_model
from numpy_paligemma.arrays.device import map_arrays
from numpy_paligemma.checkpoints.safetensors import list_file, read_metadata
from numpy_paligemma.checkpoints.taps import every_tap
from numpy_paligemma.model.tap import recorder
from numpy_paligemma.traces.record import record_trace, trace_file, with_answer
from numpy_paligemma.traces.writing.choice import MOST_STEPS, choose_taps, planned_taps
from numpy_paligemma.traces.writing.stream import TensorStream
from numpy_paligemma.traces.writing.whole import WholeFile

PAPER = Path(__file__).parents[1] / "weights" / "samples" / "paper.jpg"
MINIATURE = ["--model", "miniature", "--image", PAPER, "--device", "cpu"]
CAPTION = ["--prompt", "caption en"]
IDS = "inputs/input_ids"
INPUTS = ("input_ids", "attention_mask", "token_type_ids", "pixel_values")

Arrays = dict[str, np.ndarray]
Words = list[str | Path]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "traces").mkdir()
    return tmp_path / "traces" / "t.safetensors"


@pytest.fixture
def tiny(tiny_folder: Path, picture: Path) -> Words:
    return ["--model", tiny_folder, "--image", picture, "--device", "cpu"]


@pytest.fixture
def model(tiny_folder: Path) -> PaliGemma:
    return load_hf_model(tiny_folder, device="cpu", dtype="float64")[0]


@pytest.fixture
def inputs(tiny_folder: Path, picture: Path) -> Arrays:
    """Lay out two prompts of different lengths, padded."""
    _, processor = load_hf_model(tiny_folder, device="cpu")
    return {**processor(["caption en", "ocr"], [str(picture)] * 2)}


def files(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


# --- what is in it --------------------------------------------------------------------


def test_a_trace_holds_what_the_taps_show_in_their_order(
    model: PaliGemma, inputs: Arrays, out: Path
) -> None:
    record_trace(out, model, with_answer(inputs))
    tap, seen = recorder()
    model.logits(**with_answer(inputs), tap=tap)
    held = load_file(out)
    for name, x in seen.items():
        np.testing.assert_array_equal(held[name], x, err_msg=name)
        assert held[name].dtype == x.dtype
    names = [tensor.name for tensor in list_file(out)]
    assert held.keys() == {*every_tap(model.config), *(f"inputs/{n}" for n in INPUTS)}
    floats = [name for name in names if name in seen and seen[name].dtype != bool]
    assert floats == [name for name in seen if seen[name].dtype != bool]


def test_the_inputs_are_there_as_transformers_takes_them(
    model: PaliGemma, inputs: Arrays, out: Path
) -> None:
    record_trace(out, model, with_answer(inputs))
    held = load_file(out)
    for name, x in inputs.items():
        np.testing.assert_array_equal(held[f"inputs/{name}"], x)
        assert held[f"inputs/{name}"].dtype == x.dtype
    kinds = held["inputs/token_type_ids"]
    assert (kinds.dtype, kinds.shape) == (np.int64, inputs["input_ids"].shape)
    assert not kinds.any()


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_every_tensor_lies_where_its_numbers_can_be_read_in_place(
    tiny_folder: Path, inputs: Arrays, out: Path, dtype: str
) -> None:
    model, _ = load_hf_model(tiny_folder, device="cpu", dtype=dtype)
    odd = {name: x[:1] for name, x in inputs.items()}  # a mask of odd bytes, odd pixels
    record_trace(out, model, with_answer(odd), steps=2)
    held = load_file(out)
    assert held["fusion/mask"].size % 8
    for tensor in list_file(out):
        assert tensor.start % held[tensor.name].itemsize == 0, tensor.name


def test_steps_go_on_from_the_cache_as_generate_does(
    model: PaliGemma, inputs: Arrays, out: Path
) -> None:
    trace = record_trace(out, model, with_answer(inputs), steps=4)
    held, made = load_file(out), []

    def keep(name: str, x: np.ndarray) -> np.ndarray:
        made.extend([x] if name == "logits" else [])
        return x

    options: Any = {"do_sample": False, "max_new_tokens": 5, "tap": keep}
    ids = model.generate(**inputs, **options)
    assert trace.steps == 4
    for step in range(1, 5):
        at = f"step{step:03}/"
        np.testing.assert_array_equal(held[at + IDS], ids[:, step - 1 : step])
        assert relative_error(held[at + "logits"], made[step]) <= FLOAT64
        shape = held[at + "decoder/block02/attention/probs"].shape
        assert shape == (2, 4, 1, inputs["input_ids"].shape[1] + step)
    names = {name for name in held if not name.startswith("inputs/")}
    assert names - set(planned_taps(model.config, 4)) == {
        f"step{step:03}/{IDS}" for step in range(1, 5)
    }


def test_a_window_and_an_answer_are_no_matter_to_the_cache(out: Path) -> None:
    golden = load_golden("gemma_2")
    given = {k: x for k, x in golden.inputs.items() if k != "pictures"}
    given["pixel_values"] = golden.expected["pixels"]
    record_trace(out, golden.model, given, steps=3)
    held = load_file(out)
    longer = with_answer(given)
    for step in range(1, 4):
        new = held[f"step{step:03}/{IDS}"]
        pairs = {"input_ids": new, "attention_mask": 0 * new + 1}
        pairs["token_type_ids"] = 0 * new + 1
        old = given if step == 1 else longer
        longer = {
            name: np.concatenate([old[name], pairs[name]], axis=1) for name in pairs
        } | {"pixel_values": given["pixel_values"]}
        whole = golden.model.logits(**longer)[:, -1]
        assert relative_error(held[f"step{step:03}/logits"], whole) <= FLOAT64


def test_an_answer_is_causal_behind_the_prompt(
    command: Command, tiny: Words, out: Path, tiny_folder: Path
) -> None:
    ran = command("trace", *tiny, *CAPTION, "--answer", "a cat", "--out", out)
    assert ran.status == 0
    _, processor = load_hf_model(tiny_folder, device="cpu")
    held, answer = load_file(out), processor.tokenizer.encode("a cat")
    n = len(answer)
    assert held[IDS][0, -n:].tolist() == answer
    assert held["inputs/token_type_ids"][0].tolist()[-n - 1 :] == [0] + [1] * n
    mask = held["fusion/mask"][0, 0]
    np.testing.assert_array_equal(mask[-n:, -n:], np.tri(n, dtype=bool))
    assert not mask[:-n, -n:].any()
    assert mask[:, :-n].all()


def test_what_generate_shows_can_be_recorded_too(
    model: PaliGemma, inputs: Arrays, out: Path
) -> None:
    with trace_file(out, model, inputs, steps=3) as trace:
        model.generate(**inputs, tap=trace.tap, max_new_tokens=3, do_sample=False)
    held = load_file(out)
    assert held["logits"].shape == held["step002/logits"].shape == (2, 2059)
    assert "vision/out" in held
    assert "fusion/mask" not in held  # a prefill that hides nothing but padding
    assert read_metadata(out)["steps"] == "2"


def test_a_tap_that_replaces_is_recorded_and_followed(
    model: PaliGemma, inputs: Arrays, out: Path
) -> None:
    def silence(name: str, x: np.ndarray) -> np.ndarray:
        return 0 * x if name == "decoder/block00/mlp/out" else x

    record_trace(out, model, with_answer(inputs), tap=silence)
    held = load_file(out)
    assert not held["decoder/block00/mlp/out"].any()
    mid, after = (held[f"decoder/block00/{name}"] for name in ("mid", "out"))
    np.testing.assert_array_equal(mid, after)


def test_a_trace_from_a_device_is_the_same_file(
    tiny_folder: Path, inputs: Arrays, out: Path
) -> None:
    model, _ = load_hf_model(tiny_folder, device="cpu", dtype="bfloat16")
    written = []
    for place in (np.array, DeviceArray):
        moved = PaliGemma(model.config, map_arrays(model.weights, place))
        record_trace(out, moved, with_answer(inputs, [7, 8]), steps=2)
        written.append(out.read_bytes())
    assert written[0] == written[1]


def test_metadata_say_what_it_is_a_trace_of(
    command: Command, tiny: Words, out: Path, tiny_folder: Path
) -> None:
    words = ["--prompt", "ocr", "--taps", "vision/*", "--dtype", "float32"]
    ran = command("trace", *tiny, *CAPTION, *words, "--out", out)
    assert ran.status == 0
    about = read_metadata(out)
    sha = "[0-9a-f]{64}"
    assert re.fullmatch(sha, about.pop("checkpoint_sha256"))
    assert re.fullmatch(sha, about.pop("config_sha256"))
    versions = json.loads(about.pop("versions"))
    assert versions.keys() == {"numpy_paligemma", "numpy", "python"}
    assert about == {
        "format": "numpy_paligemma trace 1",
        "checkpoint": tiny_folder.name,
        "dtype": "float32",
        "arithmetic": "float32",
        "prompt": '["caption en", "ocr"]',
        "steps": "0",
        "taps": '["vision/*"]',
    }
    assert str(tiny_folder.parent) not in str(read_metadata(out))


def test_the_golden_trace_is_of_the_same_things_as_ours(
    command: Command, out: Path
) -> None:
    ran = command("trace", *MINIATURE, *CAPTION, "--out", out, "--taps", "!*/scores")
    assert ran.status == 0
    golden = GOLDEN / "miniature.safetensors"
    ours, theirs = read_metadata(out), read_metadata(golden)
    assert ours.keys() == theirs.keys()
    own = ("dtype", "arithmetic", "versions")  # theirs were made in float64, by torch
    assert {k: ours[k] for k in ours if k not in own} == {
        k: theirs[k] for k in theirs if k not in own
    }
    shapes = {t.name: (t.dtype, t.shape) for t in list_file(golden)}
    assert shapes.pop("greedy") == ("I64", (1, 12))
    assert {t.name: (t.dtype, t.shape) for t in list_file(out)} == shapes
    for name, x in load_file(golden).items():
        if name.startswith("inputs/"):
            np.testing.assert_array_equal(load_file(out)[name], x)


# --- the table ------------------------------------------------------------------------


def test_the_table_tells_names_shapes_and_ranges(
    command: Command, tiny: Words, out: Path
) -> None:
    ran = command("trace", *tiny, *CAPTION, "--out", out, "--steps", "1")
    held = load_file(out)
    lines = [re.split(r" {2,}", line) for line in ran.out.splitlines()]
    assert lines[0] == ["name", "shape", "dtype", "min", "max", "mean |x|"]
    assert len(lines) == 1 + sum("inputs/" not in name for name in held)
    for name, shape, dtype, low, high, mean in lines[1:]:
        x = held[name]
        assert shape == " × ".join(map(str, x.shape))
        assert dtype == x.dtype.name
        numbers = [x.min(), x.max(), np.abs(x).mean()]
        np.testing.assert_allclose(
            [float(low), float(high), float(mean)], numbers, 1e-3
        )
    arrays, size = len(lines) - 1, out.stat().st_size / 1e6
    assert ran.err == f"{out}: {arrays} arrays, {size:.1f} MB\n"


def test_where_numbers_are_lost_is_warned_of(
    command: Command, tmp_path: Path, picture: Path, out: Path
) -> None:
    tensors = random_tensors()
    tensors["language_model.model.layers.1.self_attn.o_proj.weight"][3, 3] = np.nan
    folder = write_checkpoint(tmp_path / "x", tensors)
    ran = command(
        "trace", "--model", folder, "--image", picture, *CAPTION, "--out", out
    )
    assert ran.status == 0
    name = "decoder/block01/attention/out"
    assert ran.err.startswith(f"warning: NaN or infinity: {name} is the first of ")
    assert "RuntimeWarning" not in ran.err


def test_steps_end_where_the_answer_does(command: Command, out: Path) -> None:
    words = ["--steps", "20", "--taps", "logits", "--out", out]
    ran = command("trace", *MINIATURE, *CAPTION, *words)
    assert ran.err.startswith("the answer ended after 11 of 20 steps\n")
    held = load_file(out)
    assert read_metadata(out)["steps"] == "11"
    made = [int(held[f"step{step:03}/{IDS}"][0, 0]) for step in range(1, 12)]
    golden = load_file(GOLDEN / "miniature.safetensors")["greedy"][0].tolist()
    assert [*made, int(held["step011/logits"][0].argmax())] == golden


# --- which taps -----------------------------------------------------------------------

NAMES = ["vision/embed", "decoder/block00/out", "decoder/block01/out", "logits"]
NAMES += ["step001/decoder/block00/out", "step001/logits"]


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        ([], NAMES),
        (["*"], NAMES),
        (["logits"], [NAMES[3], NAMES[5]]),
        (["step*"], NAMES[4:]),
        (["vision/*", "logits"], [NAMES[0], NAMES[3], NAMES[5]]),
        (["logits", "!step*"], [NAMES[3]]),
        (["!decoder/*"], [NAMES[0], NAMES[3], NAMES[5]]),
        (["decoder/block0[1]/out"], [NAMES[2]]),
        (["step001/logits"], [NAMES[5]]),
    ],
    ids=str,
)
def test_patterns_choose_taps(patterns: list[str], chosen: list[str]) -> None:
    assert choose_taps(NAMES, patterns) == chosen


@pytest.mark.parametrize(
    ("patterns", "told"),
    [
        (["logit"], "taps: 'logit' matches none of the 6 taps, vision/embed to step"),
        (["logits", "!x"], "taps: '!x' matches none of the 6 taps"),
        (["block00/out"], "taps: 'block00/out' matches none"),
        (["logits", "!logits"], "taps: logits !logits leaves none of the 6 taps"),
        ([""], "taps: '' matches none"),
    ],
)
def test_patterns_that_choose_nothing_are_refused(
    patterns: list[str], told: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        choose_taps(NAMES, patterns)


# --- nothing is held, and nothing half done is left -----------------------------------


def test_no_array_is_held_until_the_end(
    model: PaliGemma, inputs: Arrays, out: Path
) -> None:
    seen: list[weakref.ref[np.ndarray]] = []
    alive = []

    def watch(name: str, x: np.ndarray) -> np.ndarray:
        seen.append(weakref.ref(x))
        if name == "logits":
            alive.append(sum(ref() is not None for ref in seen))
        return x

    record_trace(out, model, with_answer(inputs), tap=watch)
    assert len(seen) == len(every_tap(model.config))
    assert alive[0] < 10, "of all arrays most should be gone"


def test_ctrl_c_leaves_no_file_and_an_earlier_trace_as_it_was(
    command: Command, tiny: Words, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["trace", *tiny, *CAPTION, "--out", out]
    add = TensorStream.add

    def interrupted(self: TensorStream, name: str, x: np.ndarray) -> None:
        if name == "decoder/block01/mid":
            raise KeyboardInterrupt
        add(self, name, x)

    with monkeypatch.context() as patch:
        patch.setattr(TensorStream, "add", interrupted)
        ran = command(*words)
        assert (ran.status, ran.out, ran.err) == (130, "", "\ninterrupted\n")
        assert files(out) == []
        out.touch()
    assert command(*words).status == 0
    before = out.read_bytes()
    monkeypatch.setattr(TensorStream, "add", interrupted)
    assert command(*words).status == 130
    assert (files(out), out.read_bytes()) == ([out.name], before)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_full_disk_is_one_line_and_leaves_nothing(tiny: Words, out: Path) -> None:
    words = [sys.executable, "-m", "numpy_paligemma", "trace", *map(str, tiny)]
    words += [*CAPTION, "--out", str(out)]
    limited = ["sh", "-c", 'ulimit -f 64; exec "$@"', "sh", *words]
    ran = subprocess.run(limited, capture_output=True, timeout=60, check=False)
    said = ran.stderr.decode()
    assert (ran.returncode, ran.stdout, said.count("\n")) == (1, b"", 1)
    assert said.startswith(f"error: {out}: cannot be written (File too large); choose")
    assert files(out) == []


def test_more_than_one_pass_is_refused(
    model: PaliGemma, inputs: Arrays, out: Path
) -> None:
    def two_passes() -> None:
        with trace_file(out, model, inputs) as trace:
            for _ in range(2):
                model.logits(**inputs, tap=trace.tap)

    with pytest.raises(
        ValueError, match="step001/vision/embed: more than the one pass"
    ):
        two_passes()
    assert files(out) == []


def test_a_stream_refuses_what_would_spoil_the_file(out: Path) -> None:
    x = np.zeros(3, np.float32)

    def write(*tensors: tuple[str, np.ndarray]) -> None:
        with WholeFile(out) as file:
            stream = TensorStream(file, "float32", ["a", "b"], 0, {})
            for name, y in tensors:
                stream.add(name, y)

    for tensors, told in [
        ((("c", x),), "c: not among the 2 tensors"),
        ((("a", x), ("a", x)), "a: came a second time"),
        ((("b", x > 0), ("b", x > 0)), "b: came a second time"),
        ((("a", x.astype(np.float16)),), "a: expected one of .*, came float16"),
    ]:
        with pytest.raises(ValueError, match=told):
            write(*tensors)
        assert files(out) == []
    with pytest.raises(ValueError, match="500000 tensors are more than a safetensors"):
        TensorStream(WholeFile(out), "float32", map(str, range(5 * 10**5)), 0, {})


# --- where it goes --------------------------------------------------------------------


def missing_folder(folder: Path) -> Path:
    return folder / "none" / "t.safetensors"


def a_folder(folder: Path) -> Path:
    (folder / "t.safetensors").mkdir()
    return folder / "t.safetensors"


def another_ending(folder: Path) -> Path:
    return folder / "t.npz"


def weights(folder: Path) -> Path:
    return write_checkpoint(folder / "precious") / "model.safetensors"


def a_link_to_weights(folder: Path) -> Path:
    (folder / "t.safetensors").symlink_to(weights(folder))
    return folder / "t.safetensors"


def no_safetensors(folder: Path) -> Path:
    (folder / "t.safetensors").write_text("a diary")
    return folder / "t.safetensors"


TARGETS: list[tuple[Callable[[Path], Path], str]] = [
    (missing_folder, r"none/t\.safetensors: cannot be written \(No such file"),
    (a_folder, "expected a file to write the trace into, found a folder"),
    (another_ending, r"t\.npz: expected a name that ends in \.safetensors"),
    (weights, "is there already and is no trace, so it is not replaced; give another"),
    (a_link_to_weights, "is there already and is no trace, so it is not replaced"),
    (no_safetensors, "is there already and is no trace, so it is not replaced"),
]


@pytest.mark.parametrize(
    ("make", "why"), TARGETS, ids=lambda x: getattr(x, "__name__", "")
)
def test_what_cannot_be_written_to_is_one_line_before_a_checkpoint_is_loaded(
    command: Command, picture: Path, out: Path, make: Callable[[Path], Path], why: str
) -> None:
    target = make(out.parent)
    before = {p: p.read_bytes() for p in out.parent.rglob("*") if p.is_file()}
    words = ["--model", "/no/such", "--image", picture, *CAPTION]
    ran = command("trace", *words, "--out", target)
    assert_one_line(ran, 1)
    assert re.search(why, ran.err), ran.err
    assert {p: p.read_bytes() for p in out.parent.rglob("*") if p.is_file()} == before


def test_an_earlier_trace_is_replaced_and_a_link_stays_one(
    command: Command, tiny: Words, out: Path
) -> None:
    assert command("trace", *tiny, *CAPTION, "--out", out).status == 0
    link = out.with_name("link.safetensors")
    link.symlink_to(out)
    words = ["--out", link, "--taps", "logits"]
    assert command("trace", *tiny, *CAPTION, *words).status == 0
    assert link.is_symlink()
    assert [n for n in load_file(out) if "inputs/" not in n] == ["logits"]


# --- bad input ------------------------------------------------------------------------


def test_a_picture_that_cannot_be_read_is_one_line_and_no_file(
    command: Command, out: Path
) -> None:
    words = ["--model", "/no/such", "--image", out.parent / "x.png", *CAPTION]
    ran = command("trace", *words, "--out", out)
    assert_one_line(ran, 1)
    assert ran.err.startswith("error: no such picture")
    assert files(out) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--taps", "decode/*"], "error: taps: 'decode/*' matches none of the "),
        (["--taps", "step001/*"], "error: taps: 'step001/*' matches none of the "),
        (
            ["--steps", str(MOST_STEPS + 1)],
            "error: steps: expected 0 to 999, came 1000",
        ),
    ],
)
def test_what_is_not_there_is_one_line_and_no_file(
    command: Command, tiny: Words, out: Path, words: list[str], told: str
) -> None:
    ran = command("trace", *tiny, *CAPTION, "--out", out, *words)
    assert_one_line(ran, 1)
    assert ran.err.startswith(told)
    assert files(out) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--steps", "-1"], "--steps: expected a whole number, 0 to 999999999"),
        (["--image", "-", "--image", "-"], "standard input is one picture"),
        (["--seed", "1"], "unrecognized arguments: --seed 1"),
        (["--out"], "argument --out: expected one argument"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(
    command: Command, tiny: Words, out: Path, words: list[str], told: str
) -> None:
    ran = command("trace", *tiny, *CAPTION, "--out", out, *words)
    assert (ran.status, ran.out) == (2, "")
    assert told in ran.err.splitlines()[-1]


@pytest.mark.parametrize("missing", ["--image", "--prompt", "--out"])
def test_picture_prompt_and_file_are_required(command: Command, missing: str) -> None:
    given = {"--image": "x.png", "--prompt": "ocr", "--out": "x.safetensors"}
    del given[missing]
    ran = command("trace", *(word for pair in given.items() for word in pair))
    assert ran.status == 2
    assert f"the following arguments are required: {missing}" in ran.err
