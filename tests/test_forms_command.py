"""The other forms of a checkpoint, from the command line."""

from pathlib import Path

import numpy as np
import pytest
from big_vision_arrays import big_vision_arrays, write_npz
from command_line import Command, assert_one_line
from test_lora import factors, write_adapter
from tiny import random_tensors, write_checkpoint, write_config
from tiny_tokenizer import write_tokenizer

from numpy_paligemma import load_hf_model
from numpy_paligemma.checkpoints.config import read_config

ASKED = ["--prompt", "caption en", "--max-new-tokens", "5", "--no-sample"]


def test_an_adapter_is_merged_and_said_to_be(
    command: Command, tiny_folder: Path, picture: Path, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "a")
    words = ["--model", tiny_folder, "--image", picture, *ASKED, "--device", "cpu"]
    ran = command(*words, "--adapter", folder)
    assert ran.status == 0
    assert ran.err.startswith("adapter: 8 matrices changed by ")
    model, processor = load_hf_model(tiny_folder, adapter=folder, device="cpu")
    inputs = processor(["caption en"], [str(picture)])
    ids = model.generate(**inputs, max_new_tokens=5, do_sample=False)
    assert ran.out == processor.tokenizer.decode(ids[0]) + "\n"
    assert ran.out != command(*words).out


def test_an_adapter_of_another_model_is_one_line(
    command: Command, tiny_folder: Path, picture: Path, tmp_path: Path
) -> None:
    given = {name: np.tile(x, 2) for name, x in factors().items()}
    folder = write_adapter(tmp_path / "a", given, r=4)
    words = ["--model", tiny_folder, "--image", picture, *ASKED, "--device", "cpu"]
    for where, told in [(folder, "8 of another rank ("), ("nowhere", "no such folder")]:
        ran = command(*words, "--adapter", where)
        assert_one_line(ran, 1)
        assert told in ran.err


def test_an_npz_is_a_model_as_a_folder_is(
    command: Command, picture: Path, tmp_path: Path
) -> None:
    folder = write_checkpoint(tmp_path / "hf")
    write_config(folder, vision_config={"image_size": 12})
    arrays = big_vision_arrays(random_tensors(), read_config(folder))
    path = write_npz(tmp_path / "x.npz", arrays)
    words = ["--image", picture, *ASKED, "--device", "cpu"]
    ran = command("--model", path, *words)
    assert_one_line(ran, 1)
    assert "no tokenizer: expected " in ran.err
    write_tokenizer(tmp_path)
    assert command("--model", path, *words).status == 0
    path.write_bytes(path.read_bytes()[:-1])
    ran = command("--model", path, *words)
    assert_one_line(ran, 1)
    assert "expected a whole npz file, but" in ran.err


@pytest.mark.parametrize("name", ["tokenizer.model", "tokenizer.json"])
def test_either_tokenizer_gives_the_same_answer(
    command: Command, picture: Path, tmp_path: Path, name: str
) -> None:
    folder = write_checkpoint(tmp_path / "hf")
    words = ["--model", folder, "--image", picture, *ASKED, "--device", "cpu"]
    expected = command(*words)
    (folder / "tokenizer.model").unlink()
    write_tokenizer(folder, name)
    assert command(*words) == expected
