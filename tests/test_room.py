"""Too little memory: known before it is spent, told in one line with the ways out."""

import dataclasses
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Command, assert_one_line
from test_bill import LISTING, peak_of
from test_config import published
from test_lora import write_adapter
from tiny import write_checkpoint

from numpy_paligemma import PaliGemma, load_hf_model, paligemma
from numpy_paligemma.arrays.memory import CONTAINER, MACHINE, Memory
from numpy_paligemma.checkpoints.about import room
from numpy_paligemma.checkpoints.about.bill import (
    Bill,
    activation_bytes,
    cache_bytes,
    memory_bill,
)
from numpy_paligemma.checkpoints.about.room import (
    fit_of,
    require_room_to_load,
    rows_at_once,
)
from numpy_paligemma.checkpoints.about.sizes import count_parameters
from numpy_paligemma.checkpoints.config import read_config
from numpy_paligemma.checkpoints.hub import MINIATURE, bundled
from numpy_paligemma.checkpoints.units import size_text
from numpy_paligemma.commands import info
from numpy_paligemma.model.config import PaliGemmaConfig
from numpy_paligemma.model.tap import recorder

GB = 10**9
Is = Callable[..., None]


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Is:
    """Let the memory that is there be so much."""

    def is_(free: float, most: float | None = None, whose: str = MACHINE) -> None:
        here = Memory(free, free if most is None else most, whose)
        for module in (room, info):
            monkeypatch.setattr(module, "memory_here", lambda: here)
        monkeypatch.setattr(room, "UNASKED", 0)

    return is_


class Listed:
    """A tensor of a file that is not there; read, it fails the test."""

    def __init__(self, dtype: str) -> None:
        self.name, self.path, self.shape = "", Path(), ()
        self.dtype, self.mapped = dtype, True

    def read(self) -> np.ndarray:
        """Fail: nothing may be read before there is room."""
        raise AssertionError


class Everything(dict[str, Any]):
    """A list of tensors in which every name is found."""

    def __init__(self, dtype: str) -> None:
        self.tensor = Listed(dtype)

    def __getitem__(self, name: str) -> Any:
        return self.tensor


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> dict[int, PaliGemmaConfig]:
    """Read the published 3B's sizes, for pictures of 224 and 896 pixels."""
    folder = tmp_path_factory.mktemp("sizes")
    found = {}
    for pixels in (224, 896):
        (folder / "config.json").write_text(json.dumps(published(pixels)))
        found[pixels] = read_config(folder)
    return found


def load(c: PaliGemmaConfig, dtype: str, found: str = "BF16", **options: Any) -> None:
    tensors = Everything(found)
    require_room_to_load(Path("3b"), c, dtype, tensors, tied=True, **options)


def refusal(c: PaliGemmaConfig, dtype: str, found: str = "BF16") -> str:
    with pytest.raises(MemoryError) as caught:
        load(c, dtype, found)
    return str(caught.value)


def test_what_cannot_fit_is_one_line_with_its_parts_and_the_ways_out(
    sizes: dict[int, PaliGemmaConfig], memory: Is
) -> None:
    memory(8 * GB)
    bill = memory_bill(sizes[224], "float32", 356)
    said = refusal(sizes[224], "float32")
    before, ways = said.split("; use ")
    assert before == (
        f"3b held as float32 needs {size_text(bill.needed)} of memory (weights "
        f"11.7 GB, cache 13.1 MB, activations {size_text(bill.activations)}), but this "
        "machine has 8.00 GB free"
    )
    assert ways.startswith("--dtype bfloat16 (")
    assert ways.endswith(", or close other programs")
    assert "float16 (" not in ways.replace("bfloat16 (", "")


def test_a_container_and_its_swap_are_told_apart(
    sizes: dict[int, PaliGemmaConfig], memory: Is
) -> None:
    memory(2 * GB, 3 * GB, CONTAINER)
    said = refusal(sizes[224], "float32")
    assert "but this container has 2.00 GB and 1.00 GB of swap free; use" in said


def test_what_is_taken_only_while_loading_is_told_too(
    sizes: dict[int, PaliGemmaConfig], memory: Is
) -> None:
    c = dataclasses.replace(
        sizes[224], vision=dataclasses.replace(sizes[224].vision, depth=1)
    )
    c = dataclasses.replace(c, text=dataclasses.replace(c.text, depth=1))
    memory(2 * GB)
    assert re.search(
        r"activations [\d.]+ MB; [\d.]+ GB while loading\)", refusal(c, "float64")
    )


def test_larger_pictures_have_one_more_way_out(
    sizes: dict[int, PaliGemmaConfig], memory: Is
) -> None:
    memory(8 * GB)
    smaller = "or a checkpoint for smaller pictures, or close other programs"
    assert refusal(sizes[896], "float32").endswith(smaller)
    assert smaller not in refusal(sizes[224], "float32")


def test_where_nothing_fits_what_runs_slowly_is_named(
    sizes: dict[int, PaliGemmaConfig], memory: Is
) -> None:
    memory(1 * GB)
    said = refusal(sizes[224], "float64")
    slow = size_text(memory_bill(sizes[224], "bfloat16", 356).total)
    assert f"; use --dtype bfloat16 ({slow}, slowly), or close other programs" in said
    memory(0.01 * GB)
    assert refusal(sizes[224], "float64").endswith(" free; close other programs")


def test_a_file_larger_than_memory_runs_and_is_warned_of(
    sizes: dict[int, PaliGemmaConfig], memory: Is, caplog: pytest.LogCaptureFixture
) -> None:
    memory(1 * GB)
    load(sizes[224], "bfloat16")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert re.fullmatch(
        r"warning: 5\.85 GB of weights stay in the file, but this machine has "
        r"8\d\d\.\d MB free for them: what does not fit is read from the disk again for "
        r"every token; (use --dtype int8 .*, or )?close other programs",
        record.getMessage(),
    )


def test_what_has_to_be_swapped_is_warned_of(
    sizes: dict[int, PaliGemmaConfig], memory: Is, caplog: pytest.LogCaptureFixture
) -> None:
    memory(8 * GB, 20 * GB)
    load(sizes[224], "float32")
    (record,) = caplog.records
    said = record.getMessage()
    assert re.match(r"warning: 3b held as float32 needs 11\.\d GB of memory \(", said)
    assert ", but this machine has 8.00 GB and 12.0 GB of swap free, so that it" in said
    assert said.count("\n") == 0


def test_what_fits_is_loaded_without_a_word(
    sizes: dict[int, PaliGemmaConfig], memory: Is, caplog: pytest.LogCaptureFixture
) -> None:
    memory(13 * GB)
    for dtype in ["bfloat16", "float16", "float32"]:
        load(sizes[224], dtype)
    assert not caplog.records


def test_a_file_that_has_it_so_needs_no_copy(
    sizes: dict[int, PaliGemmaConfig], memory: Is
) -> None:
    memory(1 * GB)
    load(sizes[224], "float16", "F16")
    load(sizes[224], "float32", "F32")
    assert "3b held as float16 needs " in refusal(sizes[224], "float16", "BF16")


def test_what_an_adapter_changes_is_a_copy(
    sizes: dict[int, PaliGemmaConfig], memory: Is
) -> None:
    memory(1 * GB)
    with pytest.raises(MemoryError, match="bfloat16 needs"):
        load(sizes[224], "bfloat16", changed=AnyName())


class AnyName:
    """A container of every name."""

    def __contains__(self, name: object) -> bool:
        return True


# --- where it is asked ----------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_loader_stops_before_it_reads_weights(
    tmp_path: Path, memory: Is, command: Command, picture: Path, dtype: str
) -> None:
    folder = write_checkpoint(tmp_path / "x", dtype="BF16")
    memory(1000)
    asked = ["--model", folder, "--image", picture, "--prompt", "caption en"]
    peak = peak_of(lambda: refused(folder, dtype))
    assert peak < LISTING
    ran = command(*asked, "--dtype", dtype)
    assert_one_line(ran, 1)
    assert ran.err.startswith(
        f"error: not enough memory: {folder} held as {dtype} needs "
    )
    assert "but this machine has 1.00 kB free; close other programs" in ran.err


def refused(folder: Path, dtype: str) -> None:
    with pytest.raises(MemoryError):
        load_hf_model(folder, device="cpu", dtype=dtype)


def test_an_adapter_on_a_large_model_is_stopped_too(
    tiny_folder: Path, tmp_path: Path, memory: Is
) -> None:
    memory(1000)
    with pytest.raises(MemoryError, match="held as float32 needs"):
        load_hf_model(
            tiny_folder,
            device="cpu",
            dtype="float32",
            adapter=write_adapter(tmp_path / "a"),
        )


Model = tuple[PaliGemma, dict[str, np.ndarray]]


@pytest.fixture
def asked() -> Model:
    model, processor = load_hf_model(MINIATURE, device="cpu")
    picture = np.zeros((112, 112, 3), np.uint8)
    return model, processor(["caption en"] * 3, [picture] * 3)


def test_an_answer_stops_before_the_prefill(asked: Model, memory: Is) -> None:
    model, inputs = asked
    tokens = inputs["input_ids"].shape[1] + 1000
    cache = cache_bytes(model.config, tokens, "float32", 3)
    one = activation_bytes(model.config, tokens, "float32")
    memory(cache + one - 1)
    with pytest.raises(MemoryError) as caught:
        model.stream(**inputs, max_new_tokens=1000)
    assert str(caught.value) == (
        f"3 rows of {tokens:,} positions need {size_text(cache + one)} of memory (cache "
        f"{size_text(cache)}, activations {size_text(one)}), but this machine has "
        f"{size_text(cache + one - 1)} free; ask fewer rows at once, or lower "
        "max_new_tokens, or close other programs"
    )
    memory(cache + one)
    model.stream(**inputs, max_new_tokens=1000)


def test_one_row_cannot_be_made_fewer(asked: Model, memory: Is) -> None:
    model, inputs = asked
    memory(1000)
    with pytest.raises(MemoryError) as caught:
        model.generate(**{name: x[:1] for name, x in inputs.items()})
    assert str(caught.value).startswith("1 row of ")
    assert "free; lower max_new_tokens, or close other programs" in str(caught.value)


def test_the_command_stops_before_the_prefill(
    memory: Is, command: Command, picture: Path
) -> None:
    memory(60 * 10**6)
    asked = ["--model", MINIATURE, "--image", picture, "--prompt", "caption en"]
    ran = command(*asked, "--max-new-tokens", "999999")
    assert_one_line(ran, 1)
    assert ran.err.startswith("error: not enough memory: 1 row of 1,000,0")


def test_rows_are_read_as_many_at_once_as_there_is_room(
    sizes: dict[int, PaliGemmaConfig], memory: Is
) -> None:
    c = sizes[224]
    one = activation_bytes(c, 356, "float32")
    cache = cache_bytes(c, 356, "float32", 64)
    mapped = memory_bill(c, "bfloat16", 356).mapped
    for rows in (1, 5, 64):
        memory(mapped + cache + activation_bytes(c, 356, "float32", rows))
        assert rows_at_once(c, 64, 356, "float32", mapped) == rows
        memory(cache + activation_bytes(c, 356, "float32", rows))  # nothing is mapped
        assert rows_at_once(c, 64, 356, "float32") == rows
    memory(100 * GB)
    assert rows_at_once(c, 64, 356, "float32", mapped) == 64
    memory(cache + one)
    assert rows_at_once(c, 64, 356, "float32", mapped) == 1


@pytest.mark.parametrize(
    ("dtype", "number"), [("bfloat16", 2), ("int8", 0), ("float32", 0)]
)
def test_pages_are_left_free_only_where_something_is_mapped(
    monkeypatch: pytest.MonkeyPatch, dtype: str, number: int
) -> None:
    model, _ = load_hf_model(MINIATURE, device="cpu", dtype=dtype)
    told: list[int] = []

    def spy(_c: object, rows: int, _t: int, _d: str, mapped: int, _l: int) -> int:
        told.append(mapped)
        return rows

    monkeypatch.setattr(paligemma, "rows_at_once", spy)
    model.look(np.zeros((1, 3, 112, 112), np.float32))
    assert told == [number * count_parameters(model.config).matrices]


def test_with_a_tap_all_rows_are_read_at_once(asked: Model, memory: Is) -> None:
    model, inputs = asked
    tokens = inputs["input_ids"].shape[1] + 1
    cache = cache_bytes(model.config, tokens, "float32", 3)
    one, all_ = (
        activation_bytes(model.config, tokens, "float32", rows) for rows in (1, 3)
    )
    memory(cache + one, cache + all_)
    tap, seen = recorder()
    model.generate(**inputs, max_new_tokens=1, tap=tap)
    assert seen["vision/out"].shape[0] == seen["fusion/out"].shape[0] == 3
    tap, seen = recorder()
    model.look(inputs["pixel_values"], tap)
    assert seen["vision/out"].shape[0] == 3
    memory(cache + one, cache + all_ - 1)
    model.generate(**inputs, max_new_tokens=1)
    with pytest.raises(MemoryError, match=size_text(cache + all_)):
        model.stream(**inputs, max_new_tokens=1, tap=tap)


def test_logits_everywhere_stop_before_the_memory_is_spent(
    asked: Model, memory: Is
) -> None:
    model, inputs = asked
    rows, tokens = inputs["input_ids"].shape
    logits = rows * tokens * model.config.text.vocab_size * 4
    needed = logits + activation_bytes(model.config, tokens, "float32", rows)
    memory(needed)
    tap, seen = recorder()
    assert model.logits(**inputs, tap=tap).nbytes == logits
    memory(needed - 1)
    seen.clear()
    with pytest.raises(MemoryError) as caught:
        model.logits(**inputs, tap=tap)
    assert not seen
    assert f"(logits {size_text(logits)}, activations " in str(caught.value)
    assert "ask fewer rows at once, or lower the prompt's length" in str(caught.value)


@pytest.mark.parametrize(
    ("free", "most", "fit"),
    [
        (90, 90, "yes"),
        (89, 90, "slow"),
        (40, 40, "slow"),
        (39, 40, "slow"),
        (39, 39, "no"),
    ],
)
def test_a_fit_is_told_by_what_is_free_and_what_can_be_had(
    free: int, most: int, fit: str
) -> None:
    bill = Bill(70, 50, 10, 10, 30, 95)  # 40 of its own, 50 mapped
    assert fit_of(bill, Memory(free, most, MACHINE)) == fit


def test_loading_may_need_more_than_answering() -> None:
    bill = Bill(70, 0, 10, 10, 100, 120)
    assert fit_of(bill, Memory(99, 99, MACHINE)) == "no"
    assert fit_of(bill, Memory(100, 100, MACHINE)) == "yes"


def test_info_tells_what_fits_here(
    memory: Is, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(published(224)))
    memory(4 * GB)
    told = command("info", tmp_path).out
    fits = dict(re.findall(r"^  (\w+) .*B  (yes|slow|no)$", told, re.MULTILINE))
    assert fits.items() >= {"bfloat16": "slow", "float32": "no"}.items()
    assert "  fits: this machine has 4.00 GB free\n  slow: swapped, or read" in told
    assert "  load peak: from a bfloat16 file\n" in told
    told = json.loads(command("info", tmp_path, "--json").out)["memory"]
    assert {name: bill["fits"] for name, bill in told["bytes"].items()} == fits
    assert told["here"] == {"free": 4 * GB, "most": 4 * GB, "whose": MACHINE}
    assert (told["rows"], told["stored"], told["tokens"]) == (1, "bfloat16", 356)
    memory(16 * GB, 20 * GB)
    told = command("info", bundled(MINIATURE)).out
    assert "this machine has 16.0 GB and 4.00 GB of swap free\n" in told
    assert "slow" not in told
