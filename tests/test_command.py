"""The command line, mostly in process: answers, one-line errors, exit statuses."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Command, Ran, assert_one_line
from PIL import Image
from test_image import png
from tiny import (
    random_tensors,
    stored,
    write_checkpoint,
    write_config,
    write_safetensors,
    write_shards,
)

from numpy_paligemma import PaliGemma, load_hf_model
from numpy_paligemma.commands import options

EMBEDDING = "language_model.model.embed_tokens.weight"
GREEDY = ["--no-sample", "--device", "cpu"]


def process(
    *argv: object, stdin: int = subprocess.DEVNULL, **environment: str
) -> subprocess.Popen[bytes]:
    """Start a real process."""
    words = [sys.executable, "-m", "numpy_paligemma", *map(str, argv)]
    pipe, env = subprocess.PIPE, os.environ | environment
    return subprocess.Popen(words, stdin=stdin, stdout=pipe, stderr=pipe, env=env)


# --- answers --------------------------------------------------------------------------


def test_stdout_holds_the_answer_and_nothing_else(
    command: Command, tiny_folder: Path, picture: Path
) -> None:
    words = ["--model", tiny_folder, "--image", picture, "--prompt", "caption en"]
    ran = command("generate", *words, "--max-new-tokens", "12", *GREEDY)
    model, processor = load_hf_model(tiny_folder, device="cpu")
    inputs = processor(["caption en"], [str(picture)])
    ids = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    assert ran == (0, processor.tokenizer.decode(ids[0]) + "\n", "")
    assert len(ran.out) > 2


def test_the_first_word_may_be_left_out(
    command: Command, tiny_folder: Path, picture: Path
) -> None:
    words = ["--prompt", "ocr", "--model", tiny_folder, "--image", picture, *GREEDY]
    assert command(*words) == command("generate", *words)


def test_temperature_nought_is_greedy(
    command: Command, tiny_folder: Path, picture: Path
) -> None:
    words = ["--model", tiny_folder, "--image", picture, "--prompt", "caption en"]
    greedy = command(*words, *GREEDY)
    assert command(*words, "--temperature", "0", "--seed", "5") == greedy
    assert greedy.status == 0


def test_the_same_seed_gives_the_same_answer_and_another_another(
    command: Command, tiny_folder: Path, picture: Path
) -> None:
    words = ["--model", tiny_folder, "--image", picture, "--prompt", "caption en"]
    hot = [*words, "--temperature", "2", "--top-p", "1", "--max-new-tokens", "8"]
    first, again, other = (command(*hot, "--seed", seed) for seed in ["1", "1", "2"])
    assert first == again
    assert first.out != other.out


def test_no_new_tokens_are_an_empty_line(
    command: Command, tiny_folder: Path, picture: Path
) -> None:
    words = ["--model", tiny_folder, "--image", picture, "--prompt", "caption en"]
    assert command(*words, "--max-new-tokens", "0") == (0, "\n", "")


def test_an_empty_prompt_is_answered_with_a_warning(
    command: Command, tiny_folder: Path, picture: Path
) -> None:
    words = ["--model", tiny_folder, "--image", picture, "--max-new-tokens", "5"]
    for prompt in ["", "  "]:
        ran = command(*words, "--prompt", prompt, *GREEDY)
        assert (ran.status, ran.err.count("\n")) == (0, 1)
        assert ran.err.startswith(
            "warning: the prompt is empty; PaliGemma expects a task"
        )
        assert ran.out.strip()


def test_several_prompts_are_answered_a_line_each_after_one_look(
    command: Command, tiny_folder: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--model", tiny_folder, "--image", picture, *GREEDY]
    alone = [
        command(*words, "--prompt", prompt).out for prompt in ("ocr", "caption en")
    ]
    looks = []
    look = PaliGemma.look

    def counted(self: PaliGemma, *arguments: Any) -> Any:
        looks.append(self)
        return look(self, *arguments)

    monkeypatch.setattr(PaliGemma, "look", counted)
    together = command(*words, "--prompt", "ocr", "--prompt", "caption en")
    assert together.out == "".join(alone)
    assert len(looks) == 1


def test_several_pictures_go_with_one_prompt(
    command: Command, tiny_folder: Path, picture: Path
) -> None:
    words = ["--model", tiny_folder, "--prompt", "ocr", *GREEDY, "--image", picture]
    ran = command(*words, "--image", picture)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out != command(*words).out


def test_a_pt_checkpoint_without_a_task_is_warned_of_once(
    command: Command, tiny_folder: Path, picture: Path, tmp_path: Path
) -> None:
    pt, mix = (tmp_path / f"paligemma-3b-{kind}-224" for kind in ["pt", "mix"])
    for link in [pt, mix]:
        shutil.copytree(tiny_folder, link)
    words = ["--image", picture, *GREEDY, "--prompt", "what?", "--prompt", "why?"]
    warned = command("--model", pt, *words)
    assert warned.out == command("--model", mix, *words).out
    assert warned.err.count("\n") == 1
    assert warned.err.startswith(
        "warning: 'what?' begins with no task; a pt checkpoint"
    )
    assert command("--model", mix, *words).err == ""
    for prompt in ["ocr", " caption en", "detect cat"]:
        task = ["--image", picture, *GREEDY, "--prompt", prompt]
        assert command("--model", pt, *task).err == ""


def test_a_dash_reads_the_picture_from_stdin(
    command: Command, tiny_folder: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--model", tiny_folder, "--prompt", "ocr", *GREEDY, "--image"]
    stdin = io.TextIOWrapper(io.BytesIO(picture.read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert command(*words, "-") == command(*words, picture)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_every_dtype_on_the_list_runs(
    command: Command, tiny_folder: Path, picture: Path, dtype: str
) -> None:
    words = ["--model", tiny_folder, "--image", picture, "--prompt", "ocr", *GREEDY]
    ran = command(*words, "--dtype", dtype, "--max-new-tokens", "3")
    assert (ran.status, ran.err) == (0, "")


# --- bad input ------------------------------------------------------------------------


def truncated_jpeg() -> bytes:
    out = io.BytesIO()
    levels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(levels).save(out, "jpeg")
    return out.getvalue()[:900]


PICTURES: dict[str, tuple[bytes | None, str]] = {
    "no such file": (None, "no such picture: .*bad.png'; give an image file"),
    "text": (
        b"this is a text file\n",
        "bad.png' is not a picture .*; give a PNG, JPEG",
    ),
    "empty": (b"", "bad.png' is not a picture"),
    "a truncated JPEG": (
        truncated_jpeg(),
        "is damaged or cut short .*take another copy",
    ),
    "no pixels": (png(0, 0), "bad.png' .*no pixels"),
    "200 million pixels": (
        png(20_000, 10_000),
        "too large, shrink it first: .*200000000",
    ),
}


@pytest.mark.parametrize("case", PICTURES)
def test_a_bad_picture_is_one_line(
    command: Command, tiny_folder: Path, tmp_path: Path, case: str
) -> None:
    content, told = PICTURES[case]
    bad = tmp_path / "bad.png"
    if content is not None:
        bad.write_bytes(content)
    ran = command("--model", tiny_folder, "--image", bad, "--prompt", "ocr")
    assert_one_line(ran, 1)
    assert re.match(f"error: .*{told}", ran.err), ran.err


def test_a_folder_for_a_picture_is_one_line(
    command: Command, tiny_folder: Path, tmp_path: Path
) -> None:
    ran = command("--model", tiny_folder, "--image", tmp_path, "--prompt", "ocr")
    assert_one_line(ran, 1)


def test_a_bad_picture_does_not_wait_for_the_checkpoint(command: Command) -> None:
    ran = command("--model", "/no/such", "--image", "/no/picture", "--prompt", "ocr")
    assert_one_line(ran, 1)
    assert "no such picture" in ran.err


def rewrite(folder: Path, **changes: np.ndarray | None) -> None:
    """Write the weights again, some replaced and some left out."""
    tensors = random_tensors() | changes
    files = {name: stored(x) for name, x in tensors.items() if x is not None}
    write_safetensors(folder / "model.safetensors", files)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def shards(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    write_shards(folder)


def truncated_shard(folder: Path) -> None:
    shards(folder)
    truncate(folder / "model-00002-of-00003.safetensors")


def missing_shard(folder: Path) -> None:
    shards(folder)
    (folder / "model-00002-of-00003.safetensors").unlink()


FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (
        lambda f: (f / "config.json").unlink(),
        r"config\.json: no such file; expected a checkpoint's folder to hold one",
    ),
    "a config that is not JSON": (
        lambda f: (f / "config.json").write_text("model_type: paligemma"),
        r"config\.json: expected JSON, but .*; download it again",
    ),
    "another model": (
        lambda f: write_config(f, model_type="llava"),
        r'config\.json: expected model_type "paligemma", found "llava"',
    ),
    "the other family": (
        lambda f: write_config(f, text_config={"model_type": "gemma2"}),
        r"config\.json is of a PaliGemma 2, the tensors are of a PaliGemma 1; take both",
    ),
    "no weights": (
        lambda f: (f / "model.safetensors").unlink(),
        r"expected model\.safetensors or .*, found neither; is the download complete",
    ),
    "a missing tensor": (
        lambda f: rewrite(f, **{EMBEDDING: None}),
        rf"not those that config\.json asks for: 1 missing \({re.escape(EMBEDDING)}\)",
    ),
    "a tensor of another shape": (
        lambda f: rewrite(f, **{EMBEDDING: np.zeros((9, 10), np.float32)}),
        r"1 of another shape \(.*embed_tokens\.weight expected \(2059, 10\), found \(9, ",
    ),
    "a truncated file": (
        lambda f: truncate(f / "model.safetensors"),
        r"model\.safetensors: expected a whole safetensors file, but .*; download it again",
    ),
    "a truncated shard": (
        truncated_shard,
        r"model-00002-of-00003\.safetensors: expected a whole safetensors file, but ",
    ),
    "a missing shard": (
        missing_shard,
        r"the index names model-00002-of-00003\.safetensors, not there; download again",
    ),
    "no tokenizer": (
        lambda f: (f / "tokenizer.model").unlink(),
        r"no tokenizer: expected .*tokenizer\.model; take the tokenizer\.model of the",
    ),
    "a damaged tokenizer": (
        lambda f: (f / "tokenizer.model").write_text("<html>"),
        r"tokenizer\.model: expected a tokenizer, but it is a web page; download it again",
    ),
    "no image settings": (
        lambda f: (f / "preprocessor_config.json").unlink(),
        r"preprocessor_config\.json: no such file",
    ),
    "weights that are NaN": (
        lambda f: rewrite(f, **{EMBEDDING: np.full((2059, 10), np.nan)}),
        rf"model\.safetensors: {re.escape(EMBEDDING)} holds NaN; download it",
    ),
    "weights that are infinite": (
        lambda f: rewrite(f, **{EMBEDDING: np.full((2059, 10), np.inf)}),
        rf"model\.safetensors: {re.escape(EMBEDDING)} holds infinity; download it",
    ),
    "weights near the end of float32": (
        lambda f: rewrite(f, **{EMBEDDING: np.full((2059, 10), 3e38)}),
        "the logits are not finite, and no tensor of the checkpoint's own files is",
    ),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_bad_checkpoint_is_one_line(
    command: Command, tmp_path: Path, picture: Path, case: str
) -> None:
    break_it, told = FOLDERS[case]
    folder = write_checkpoint(tmp_path / "checkpoint")
    break_it(folder)
    ran = command("--model", folder, "--image", picture, "--prompt", "ocr", *GREEDY)
    assert_one_line(ran, 1)
    assert re.match(f"error: .*{told}", ran.err), ran.err


@pytest.mark.parametrize(
    "name", ["paligemma", "/no/such/folder", "a/b/c", "no where/x"]
)
def test_a_model_that_is_nowhere_is_one_line(
    command: Command, picture: Path, name: str
) -> None:
    ran = command("--model", name, "--image", picture, "--prompt", "ocr")
    assert_one_line(ran, 1)
    assert ran.err.startswith(f"error: {name}: expected a folder or a hub name")


def test_an_error_with_newlines_in_it_is_still_one_line(
    command: Command, picture: Path
) -> None:
    ran = command("--model", "two\nlines", "--image", picture, "--prompt", "ocr")
    assert_one_line(ran, 1)
    assert ran.err.startswith("error: two lines: expected a folder or a hub name")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--dtype", "int3"], "argument --dtype: invalid choice: 'int3'"),
        (["--dtype", "float8"], "argument --dtype: invalid choice: 'float8'"),
        (["--device", "tpu"], "argument --device: invalid choice: 'tpu'"),
        (["--temperature", "-1"], "--temperature: expected a number, 0 or more"),
        (["--temperature", "nan"], "--temperature: expected a number, 0 or more"),
        (["--temperature", "inf"], "--temperature: expected a number, 0 or more"),
        (["--temperature", "warm"], "--temperature: expected a number, 0 or more"),
        (["--top-p", "0"], r"--top-p: expected a number in (0, 1], found '0'"),
        (["--top-p", "-0.5"], r"--top-p: expected a number in (0, 1]"),
        (["--top-p", "1.01"], r"--top-p: expected a number in (0, 1], found '1.01'"),
        (["--top-p", "nan"], r"--top-p: expected a number in (0, 1]"),
        (["--max-new-tokens", "-1"], "--max-new-tokens: expected a whole number"),
        (["--max-new-tokens", "1.5"], "--max-new-tokens: expected a whole number"),
        (
            ["--seed", "-1"],
            "--seed: expected a whole number, 0 to 999999999, found '-1'",
        ),
        (["--seed", "²"], "--seed: expected a whole number, 0 to 999999999, found '²'"),
        (["--box-scale", "1000"], "argument --box-scale: invalid choice: 1000"),
        (["--box-scale", "x"], "argument --box-scale: invalid int value: 'x'"),
        (["--draw"], "argument --draw: expected one argument"),
        (["--image", "b.png", "--json"], "--draw and --json take one --image: a box"),
        (["--image", "b.png", "--draw", "c.png"], "which of 2 pictures it is in"),
        (["stray"], "unrecognized arguments: stray"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_out_of_range_is_a_usage_error(
    command: Command, picture: Path, words: list[str], told: str
) -> None:
    ran = command("generate", "--image", picture, "--prompt", "ocr", *words)
    assert ran.status == 2
    assert not ran.out
    assert told in ran.err.splitlines()[-1]


@pytest.mark.parametrize("missing", ["--image", "--prompt"])
def test_picture_and_prompt_are_required(command: Command, missing: str) -> None:
    given = {"--image": "x.png", "--prompt": "ocr"}
    del given[missing]
    ran = command("generate", *next(iter(given.items())))
    assert ran.status == 2
    assert f"the following arguments are required: {missing}" in ran.err


# --- help -----------------------------------------------------------------------------


def test_help_lists_every_option_and_nothing_that_is_not_there(
    command: Command,
) -> None:
    ran = command("generate", "--help")
    assert (ran.status, ran.err) == (0, "")
    there = [o for a in options.parser()._actions for o in a.option_strings]
    expected = "--model --image --prompt --max-new-tokens --temperature --top-p --seed "
    expected += "--device --dtype --threads --no-sample --revision -h --help "
    expected += "--draw --json --mask-decoder --box-scale --token --adapter --profile"
    assert sorted(there) == sorted(expected.split())
    assert set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", ran.out)) == set(there)
    for absent in ["trace", "batch"]:
        assert absent not in ran.out


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_the_summary_names_every_command(command: Command, word: str) -> None:
    ran = command(word)
    assert (ran.status, ran.err) == (0, "")
    assert set(re.findall(r"^  (\w+)  ", ran.out, re.MULTILINE)) == {
        "compare",
        "generate",
        "demo",
        "info",
        "trace",
    }


def test_nothing_at_all_is_a_usage_error(command: Command) -> None:
    ran = command()
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("usage: ")


# --- real processes -------------------------------------------------------------------


def test_a_real_process_answers_and_fails_as_in_process(
    command: Command, tiny_folder: Path, picture: Path
) -> None:
    words = ["--model", tiny_folder, "--image", picture, "--prompt", "ocr", *GREEDY]
    with (
        process(*words) as answering,
        process("--image", "x", "--prompt", "") as failing,
    ):
        out, err = answering.communicate(timeout=60)
        _, told = failing.communicate(timeout=60)
    ran = command(*words)
    assert (answering.returncode, out.decode(), err.decode()) == ran
    assert failing.returncode == 1
    assert told.decode().splitlines()[-1].startswith("error: no such picture: 'x'")
    assert b"Traceback" not in told


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_interrupting_leaves_with_130_and_no_traceback(tiny_folder: Path) -> None:
    words = ["--model", tiny_folder, "--image", "-", "--prompt", ""]
    # in the background of a shell it is ignored, and a child would inherit that
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with process(*words, stdin=subprocess.PIPE) as waiting:
        signal.signal(signal.SIGINT, before)
        assert waiting.stderr is not None
        assert b"the prompt is empty" in waiting.stderr.readline()  # now it reads stdin
        waiting.send_signal(signal.SIGINT)
        out, left = waiting.communicate(timeout=60)
    assert (waiting.returncode, out) == (130, b"")
    assert left.decode().strip() == "interrupted"


def test_a_reader_who_leaves_makes_no_traceback(
    tiny_folder: Path, picture: Path
) -> None:
    words = ["--model", tiny_folder, "--image", picture, "--prompt", "ocr", *GREEDY]
    with process(*words, PYTHONUNBUFFERED="") as writing:  # as at most people's
        assert writing.stdout is not None
        assert writing.stderr is not None
        writing.stdout.close()
        assert writing.stderr.read() == b""
        assert writing.wait(timeout=60) == 1


def test_offline_a_hub_name_is_one_line(tmp_path: Path, picture: Path) -> None:
    words = ["--image", str(picture), "--prompt", "ocr"]
    with process(*words, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path)) as asking:
        out, err = asking.communicate(timeout=60)
    ran = Ran(asking.returncode, out.decode(), err.decode())
    assert_one_line(ran, 1)
    assert ran.err.startswith("error: google/paligemma-3b-pt-224 is not on this disk")
    assert "--model miniature" in ran.err
