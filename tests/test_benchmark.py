"""The benchmark's own sums: what runs when, what becomes of figures, what is written."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks import full_size
from benchmarks.table import EQUAL, read_records, tables

from numpy_paligemma import load_hf_model
from weights import random_checkpoint

TESTS = Path(__file__).parent
LIMITS = {"kind": "limits", "sgemm": 200e9, "memory": 40e9}


def a_run(**changes: Any) -> dict[str, Any]:
    """One process that took a second to load, and a tenth of one a further token."""
    return {
        "kind": "run",
        "side": "ours",
        "dtype": "bfloat16",
        "size": 224,
        "batch": 1,
        "file_bytes": 4_000_000_000,
        "imported": 0.5,
        "loaded": 1.0,
        "ready": [2.5, 12.0],
        "tokens": [[11.5], [22.0, 27.0, 29.0, 29.1, 29.2, 29.6]],
        "ids": [[1], [2], [3], [4], [5], [6]],
        "peak_of_load": 6_000_000_000,
        "peak_after": 5_000_000_000,
        "work": [[1000e9, 5e9], [5e9, 2e9]],
    } | changes


def printed(path: Path, *records: dict[str, Any]) -> dict[str, list[str]]:
    """Write raw figures down and print them: cells by label, those of both tables."""
    path.write_text("\n".join(map(json.dumps, records)))
    lines = [s.strip("| ").split(" | ") for s in tables(read_records(path)).split("\n")]
    found: dict[str, list[str]] = {}
    for cells in lines:
        found.setdefault(cells[0], []).extend(cells[1:])
    return found


def test_first_further_and_peak_are_told_apart(tmp_path: Path) -> None:
    cells = printed(tmp_path / "x", a_run(), LIMITS)
    assert cells["process start to first token, s"] == ["11.5"]
    assert cells["first token after load, first call, s"] == ["10.5"]
    assert cells["first token, second call, s"] == ["10"]
    assert cells["each further token, s"] == ["0.1"]  # of 5, 2, 0.1, 0.1, 0.4
    assert cells["peak memory, GB"] == ["6"]
    assert cells["peak memory after load / checkpoint"] == ["1.25"]


def test_shares_are_of_the_highest_limit(tmp_path: Path) -> None:
    disturbed = {key: 0.5 * x if key != "kind" else x for key, x in LIMITS.items()}
    cells = printed(tmp_path / "x", a_run(), disturbed, LIMITS, disturbed)
    assert cells["prefill / limit"] == ["0.5"]  # 1000 GFLOP in 10 s, of 200 a second
    assert cells["each further token / limit"] == ["0.5"]  # 2 GB in 0.1 s, of 40


def test_a_ratio_is_that_of_two_in_one_round(tmp_path: Path) -> None:
    pairs = [(1.0, 10.0), (2.0, 4.0), (9.0, 10.0)]  # seconds: 0.1, 0.5, 0.9
    runs = [
        a_run(side=side, loaded=seconds)
        for pair in pairs
        for side, seconds in zip(("ours", "transformers"), pair, strict=True)
    ]
    cells = printed(tmp_path / "x", *runs)
    assert cells["import and load"] == ["0.5 (0.1–0.9)"]
    assert cells["import and load, s"] == ["2 (1–9)", "10 (4–10)"]


def test_int8_is_held_against_their_bfloat16(tmp_path: Path) -> None:
    runs = [a_run(dtype="int8", loaded=3.0), a_run(side="transformers", loaded=6.0)]
    assert printed(tmp_path / "x", *runs)["import and load"] == ["0.5"]


def test_a_batch_is_held_against_one_row(tmp_path: Path) -> None:
    steps = [[0.0, 9.0, 9.0, 9.4, 9.8]]  # 8 tokens in 0.4 s
    cells = printed(tmp_path / "x", a_run(), a_run(batch=8, tokens=steps))
    assert cells["batch of 8: tokens a second"] == ["20"]
    assert cells["batch of 8: tokens a second / batch of 1"] == ["2"]


def test_equal_ids_are_counted_up_to_the_first_that_differs(tmp_path: Path) -> None:
    other = a_run(side="transformers", ids=[[1], [2], [0], [4], [5], [6]])
    assert printed(tmp_path / "x", a_run(), other)[EQUAL] == ["2 of 6"]


def test_sides_take_turns_and_each_does_what_it_can() -> None:
    sizes, dtypes = [224, 448], ["bfloat16", "float32", "int8"]
    sides = ["ours", "transformers"]
    a = argparse.Namespace(sides=sides, dtypes=dtypes, batch=[1, 8], sizes=sizes)
    found = [tuple(job) for job in full_size.jobs(a)]
    one_size = [
        (side, dtype, 224, batch)
        for batch in (1, 8)
        for dtype in ("bfloat16", "float32", "int8")
        for side in sides[: 1 if dtype == "int8" else 2]
    ]
    assert found == [*one_size, *((side, "bfloat16", 448, 1) for side in sides)]


def test_children_have_a_users_environment() -> None:
    given = {"OMP_NUM_THREADS": "1", "OPENBLAS_CORETYPE": "Haswell", "PATH": "/bin"}
    kept = full_size.users_environment(given)
    assert kept == {"PATH": "/bin", "HF_HUB_OFFLINE": "1"}


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_our_side_runs_on_the_miniature() -> None:
    picture = TESTS.parent / "weights" / "samples" / "paper.jpg"
    folder = TESTS.parent / "weights" / "miniature"
    command = [TESTS / "benchmarks" / "side.py", "ours", "bfloat16", folder]
    command += ["caption en", picture, "--calls", 2, 3, "--work"]
    found = full_size.child([*command, f"--started={time.monotonic()}"])
    moments = [found["imported"], found["loaded"], found["ready"][0]]
    moments += [*found["tokens"][0], found["ready"][1], *found["tokens"][1]]
    assert len(moments) == 3 + 2 + 1 + 3
    assert moments == sorted(moments)
    (flops, read), (step_flops, step_read) = found["work"]
    assert flops > 10 * step_flops > 0
    assert read > step_read > 0


def test_the_random_checkpoint_is_one_of_the_size_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 4}
    eye = {"hidden_size": 6, "intermediate_size": 10, "num_hidden_layers": 1}
    config = dict(random_checkpoint.CONFIG, projection_dim=8)
    for part, sizes in (
        ("text_config", text),
        ("vision_config", eye | {"num_attention_heads": 2}),
    ):
        config[part] = random_checkpoint.CONFIG[part] | sizes
    monkeypatch.setattr(random_checkpoint, "CONFIG", config)
    monkeypatch.setattr(random_checkpoint, "BLOCK", 1 << 10)

    random_checkpoint.write_random_checkpoint(tmp_path / "x", image_size=28)
    model, processor = load_hf_model(tmp_path / "x")
    picture = np.zeros((9, 9, 3), np.uint8)
    logits = model.logits(**processor(["caption en"], [picture]))
    assert model.config.vision.patches == 4
    assert np.isfinite(logits).all()
    block = model.weights.vision.blocks[0]
    assert 0.9 < block.attention_norm.weight.mean() < 1.1
