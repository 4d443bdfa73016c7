"""Broken checkpoints: each is one line that names file or field, and none answers.

`tests/broken.py` has the list. What cannot be found, by this loader or any other that
has nothing but the files, stands in `UNDETECTABLE`, each with its reason.
"""

import io
import json
import os
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from broken import (
    BROKEN,
    EMBEDDING,
    EYE_Q,
    GAIN,
    WEIGHTS,
    Break,
    Q,
    config,
    filled,
    other,
    pictures,
    put,
    rewrite,
    second_family,
    second_text,
    text,
    vision,
)
from PIL import Image
from test_load import leaves
from tiny import CONFIG, IMAGE_ID, random_tensors, stored, write_checkpoint
from tiny_tokenizer import paligemma_file

from numpy_paligemma.arrays.hold import HELD_DTYPES
from numpy_paligemma.checkpoints.config import read_config
from numpy_paligemma.checkpoints.load import load_weights
from numpy_paligemma.checkpoints.safetensors import DTYPES
from numpy_paligemma.commands import main

FLIPS = 200


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "picture.png"
    levels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(levels).save(path)
    return path


def ask(folder: Path, picture: Path, *more: str) -> tuple[int, str, str]:
    """Ask a checkpoint through the command line: exit status, stdout, stderr."""
    words = ["--model", str(folder), "--image", str(picture), "--prompt", "caption en"]
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main([*words, "--no-sample", "--max-new-tokens", "4", *more])
    return status, out.getvalue(), err.getvalue()


def assert_refused(asked: tuple[int, str, str], told: str = "") -> None:
    status, out, err = asked
    assert (status, out) == (1, ""), asked
    assert re.fullmatch(rf"error: .*({told}).*\n", err), err
    assert len(err) < 2000, err
    assert "Traceback" not in err


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_checkpoint_is_refused_in_one_line(
    tmp_path: Path, picture: Path, case: str
) -> None:
    break_it, told = BROKEN[case]
    folder = write_checkpoint(tmp_path / "checkpoint")
    break_it(folder)
    assert_refused(ask(folder, picture), told)


def test_these_are_many_and_the_good_ones_answer(
    tiny_folder: Path, tmp_path: Path, picture: Path
) -> None:
    assert len(BROKEN) >= 40
    for folder in [tiny_folder, second_family(write_checkpoint(tmp_path / "2"))]:
        status, out, err = ask(folder, picture)
        assert (status, err) == (0, "")
        assert len(out) > 2


# --- anywhere -------------------------------------------------------------------------


def loaded(folder: Path) -> dict[str, bytes]:
    """Load a folder's weights: each with its bits."""
    weights = load_weights(folder, read_config(folder), "float32")
    return {name: x.tobytes() for name, x in leaves(weights)}


def test_a_byte_flipped_in_the_header_is_refused_or_changes_nothing(
    tiny_folder: Path, tmp_path: Path, picture: Path
) -> None:
    """Nothing else counts: what is not refused has the very same weights, bit by bit.

    Harmless are flips in the metadata, which nobody reads, and in white space.
    """
    folder = write_checkpoint(tmp_path / "checkpoint")
    data = (folder / WEIGHTS).read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    good, answered = loaded(tiny_folder), ask(tiny_folder, picture)
    rng, refused = np.random.default_rng(5), 0
    for place in rng.integers(0, end, FLIPS):
        flipped = bytearray(data)
        flipped[place] ^= int(rng.integers(1, 256))
        (folder / WEIGHTS).write_bytes(flipped)
        asked = ask(folder, picture)
        if asked[0]:
            assert_refused(asked, r"model\.safetensors|the tensors are not those")
            refused += 1
        else:
            assert asked == answered
            assert loaded(folder) == good
    assert refused > FLIPS * 0.9


def test_a_file_cut_anywhere_is_refused(tmp_path: Path, picture: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint")
    data = (folder / WEIGHTS).read_bytes()
    rng = np.random.default_rng(6)
    for length in [*range(9), *rng.integers(9, len(data), 30)]:
        (folder / WEIGHTS).write_bytes(data[:length])
        assert_refused(ask(folder, picture), r"model\.safetensors: expected a whole")


def test_a_tokenizer_cut_anywhere_is_refused(tmp_path: Path, picture: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint")
    data = (folder / "tokenizer.model").read_bytes()
    for length in np.random.default_rng(7).integers(0, len(data), 30):
        (folder / "tokenizer.model").write_bytes(data[:length])
        assert_refused(ask(folder, picture), r"tokenizer\.model")


def test_one_number_that_is_none_in_any_tensor_is_named(
    tmp_path: Path, picture: Path
) -> None:
    """Weights are not scanned at load: it is the first logits that give it away."""
    rng = np.random.default_rng(8)
    folder = write_checkpoint(tmp_path / "checkpoint")
    for i, (name, x) in enumerate(random_tensors().items()):
        value = [np.nan, np.inf, -np.inf][i % 3]
        broken = x.copy()
        broken.flat[rng.integers(x.size)] = value
        rewrite(**{name: stored(broken)})(folder)
        kind = "NaN" if np.isnan(value) else "infinity"
        told = rf"model\.safetensors: {re.escape(name)} holds {kind}"
        assert_refused(ask(folder, picture), told)


@pytest.mark.parametrize("held", HELD_DTYPES)
@pytest.mark.parametrize("found", DTYPES)
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_so_it_is_however_it_lies_and_is_held(
    tmp_path: Path, picture: Path, value: float, found: str, held: str
) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint")
    name = "language_model.model.layers.1.mlp.up_proj.weight"
    broken = random_tensors()[name].copy()
    broken[3, 4] = value
    rewrite(**{name: stored(broken, found)})(folder)
    kind = "NaN" if np.isnan(value) else "infinity"
    told = rf"model\.safetensors: {re.escape(name)} holds {kind}"
    assert_refused(ask(folder, picture, "--dtype", held), told)


# --- what is not broken, and what cannot be known -------------------------------------

WHOLE = json.dumps(CONFIG)
SAME: dict[str, Break] = {
    "a mark in front of the config, as Windows writes": put(
        "config.json", b"\xef\xbb\xbf" + WHOLE.encode()
    ),
    "a config in UTF-16": put("config.json", WHOLE.encode("utf-16")),
    "fields that nobody reads": config(hidden_size=7, ignore_index=3, _vocab_size=1),
    "sizes that are derived": text(num_image_tokens=7, max_position_embeddings=1),
    "<image> behind the vocabulary: its row is never read": config(
        image_token_index=IMAGE_ID + 100
    ),
    "a size that is null and has that default": vision(num_channels=None),
    "a generation config that only says how to draw": put(
        "generation_config.json", '{"do_sample": true, "temperature": 9}'
    ),
}


@pytest.mark.parametrize("case", SAME)
def test_what_changes_no_number_changes_no_answer(
    tiny_folder: Path, tmp_path: Path, picture: Path, case: str
) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint")
    SAME[case](folder)
    assert loaded(folder) == loaded(tiny_folder)
    assert ask(folder, picture) == ask(tiny_folder, picture)


# Each loads and answers. A checksum alone would tell (the hub has one for every file),
# or another statement of the same thing, which a folder does not have.
UNDETECTABLE: dict[str, Break] = {
    "a number of the weights is another number: any number may be right": filled(Q, 3),
    "a square matrix is transposed: its shape is the same": other(EYE_Q, np.transpose),
    "two tensors of one shape are exchanged: both names are there": rewrite(
        **{Q: stored(random_tensors()[Q.replace(".1.", ".2.")])},
        **{Q.replace(".1.", ".2."): stored(random_tensors()[Q])},
    ),
    "half of a matrix is zeros: some rows of real ones are": other(
        Q, lambda x: x * (np.arange(24) < 13)[:, None]
    ),
    "a gain or a bias is zeros: untrained ones are": other(GAIN, np.zeros_like),
    "heads and head size are exchanged: only their products have a shape": text(
        num_attention_heads=6, num_key_value_heads=3, head_dim=4
    ),
    "the eye's heads are others: only width = heads × size has a shape": vision(
        num_attention_heads=3
    ),
    "eps is another, and plausible": text(rms_norm_eps=1e-5),
    "the eye's eps is another, and plausible": vision(layer_norm_eps=1e-5),
    "the rope's base is another, and plausible": text(rope_theta=1e6),
    "a score cap is another": second_text(attn_logit_softcapping=20),
    "a logit cap is another": second_text(final_logit_softcapping=20),
    "a cap is off: null means that": second_text(attn_logit_softcapping=None),
    "queries are scaled otherwise": second_text(query_pre_attn_scalar=128),
    "the window is another": second_text(sliding_window=3),
    "other layers slide": second_text(layer_types=["full_attention"] * 3),
    "picture and config agree on another size with as many patches": lambda folder: (
        vision(image_size=15)(folder),
        pictures(size=15)(folder),
    ),
    "pictures are centred otherwise: the file has the only word on it": pictures(
        image_mean=[0.48, 0.46, 0.41], image_std=[0.27, 0.26, 0.28]
    ),
    "pictures are resized otherwise": pictures(resample=2),
    "a piece of the tokenizer is spelt wrongly": put(
        "tokenizer.model", paligemma_file().replace(b"cow", b"cwo")
    ),
    "an end more, which is a word": config(eos_token_id=[1, 700]),
    "a row of the embedding is another's": other(
        EMBEDDING, lambda x: np.roll(x, 1, axis=0)
    ),
}


@pytest.mark.parametrize("case", UNDETECTABLE)
def test_what_cannot_be_known_loads(tmp_path: Path, picture: Path, case: str) -> None:
    """So that the list stays true: what is found one day belongs into `BROKEN`."""
    folder = write_checkpoint(tmp_path / "checkpoint")
    UNDETECTABLE[case](folder)
    status, _, err = ask(folder, picture)
    assert (status, err) == (0, "")


# --- real processes -------------------------------------------------------------------


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="root may read everything"
)
@pytest.mark.parametrize("name", ["config.json", WEIGHTS, "tokenizer.model"])
def test_a_file_that_may_not_be_read_is_told(
    tmp_path: Path, picture: Path, name: str
) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint")
    (folder / name).chmod(0)
    assert_refused(ask(folder, picture), f"{re.escape(name)}: .*Permission denied")


@pytest.mark.parametrize("case", ["file: a Git LFS pointer", "tensors: NaN in the eye"])
def test_a_real_process_refuses_as_in_process(
    tmp_path: Path, picture: Path, case: str
) -> None:
    break_it, told = BROKEN[case]
    folder = write_checkpoint(tmp_path / "checkpoint")
    break_it(folder)
    words = ["--model", folder, "--image", picture, "--prompt", "ocr"]
    ran = subprocess.run(
        [sys.executable, "-m", "numpy_paligemma", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert_refused((ran.returncode, ran.stdout, ran.stderr), told)
