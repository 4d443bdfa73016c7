"""`info`: what files tell, parameters to the unit, and memory as it is taken."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import Command, assert_one_line
from test_command import process
from test_config import published, published_2
from test_names import LAYOUTS
from tiny import random_tensors, write_checkpoint, write_shards

from numpy_paligemma.arrays.hold import HELD_DTYPES
from numpy_paligemma.checkpoints.about.describe import describe
from numpy_paligemma.checkpoints.about.prompts import MIX, PRETRAINED, prompts_of
from numpy_paligemma.checkpoints.about.sizes import count_parameters
from numpy_paligemma.checkpoints.config import read_config
from numpy_paligemma.checkpoints.hub import MINIATURE, bundled
from numpy_paligemma.commands import main

Told = Callable[..., str]


@pytest.fixture
def info(capsys: pytest.CaptureFixture[str]) -> Told:
    """Run `info` in this process; what it says."""

    def run(*argv: str | Path) -> str:
        capsys.readouterr()
        assert main(["info", *map(str, argv)]) == 0
        out, err = capsys.readouterr()
        assert not err
        return out

    return run


def configured(folder: Path, config: dict[str, Any]) -> Path:
    """Write a folder that holds nothing but a `config.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def published_2_at(size: str, pixels: int) -> dict[str, Any]:
    config = published_2(size)
    return config | {"vision_config": config["vision_config"] | {"image_size": pixels}}


# keras-hub's presets have these numbers less 64 rows of the embedding
PARAMETERS = {
    ("PaliGemma 1", "3B", 224): 2_923_466_480,
    ("PaliGemma 1", "3B", 448): 2_924_351_216,
    ("PaliGemma 1", "3B", 896): 2_927_890_160,
    ("PaliGemma 2", "3B", 224): 3_032_242_416,
    ("PaliGemma 2", "3B", 448): 3_033_127_152,
    ("PaliGemma 2", "3B", 896): 3_036_666_096,
    ("PaliGemma 2", "10B", 224): 9_662_638_832,
    ("PaliGemma 2", "10B", 448): 9_663_523_568,
    ("PaliGemma 2", "10B", 896): 9_667_062_512,
    ("PaliGemma 2", "28B", 224): 27_650_487_024,
    ("PaliGemma 2", "28B", 448): 27_651_371_760,
    ("PaliGemma 2", "28B", 896): 27_654_910_704,
}


@pytest.mark.parametrize(("family", "size", "pixels"), PARAMETERS, ids=str)
def test_every_published_size_is_counted_to_the_unit(
    tmp_path: Path, family: str, size: str, pixels: int
) -> None:
    config = published_2_at(size.lower(), pixels)
    config = published(pixels) if family == "PaliGemma 1" else config
    about = describe(configured(tmp_path, config), "somewhere")
    assert (about.family, about.size) == (family, size)
    n = about.parameters
    assert n.total == PARAMETERS[family, size, pixels]
    assert n.vision - 1152 * (pixels // 14) ** 2 == 412_442_352 - 1152 * 256
    assert n.projector == 1152 * about.config.text.width + about.config.text.width
    assert n.embedding == 257_216 * about.config.text.width
    assert about.files is None


def test_the_parts_of_a_folder_are_those_of_its_tensors(tiny_folder: Path) -> None:
    tensors = random_tensors()
    n = count_parameters(read_config(tiny_folder))
    for part, beginning in {
        "vision": "vision_tower.",
        "projector": "multi_modal_",
        "embedding": "language_model.model.embed",
    }.items():
        there = [x.size for name, x in tensors.items() if name.startswith(beginning)]
        assert getattr(n, part) == sum(there), part
    assert n.total == sum(x.size for x in tensors.values())


# --- what files tell ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "whose"),
    [
        ("published", "as published"),
        ("with a cloned head", "as published, with a head"),
        ("4.52 in memory", "as transformers 4.52 to 4.57 holds them"),
        ("5 saved", "as transformers 5 saves them"),
        ("5 in memory", "as transformers 5 holds them"),
    ],
)
def test_the_layout_of_names_is_told(tmp_path: Path, layout: str, whose: str) -> None:
    tensors = random_tensors()
    if "head" in layout:
        head = tensors["language_model.model.embed_tokens.weight"]
        tensors["language_model.lm_head.weight"] = head
        folder = write_checkpoint(tmp_path / "x", tensors)
    else:
        folder = write_checkpoint(tmp_path / "x", tensors, rename=LAYOUTS[layout])
    files = describe(folder, "x").files
    assert files is not None
    assert files.layout == whose


NAMES = {
    "google/paligemma-3b-pt-224": "pt",
    "google/paligemma-3b-mix-448": "mix",
    "google/paligemma-3b-ft-docvqa-896": "ft",
    "google/paligemma2-28b-pt-896": "pt",
    "google/paligemma2-10b-ft-docci-448": "ft",
    "me/my-own-finetune": "unknown",
    "me/paligemma-3b-pt-224-receipts": "unknown",
    "google/paligemma-3b-ft-nlvr2-448": "ft",
}


@pytest.mark.parametrize("name", NAMES)
def test_the_kind_is_told_by_the_name(tmp_path: Path, name: str) -> None:
    folder = configured(tmp_path, published(224))
    assert describe(folder, name).kind == NAMES[name]
    inside = f"models--{name.replace('/', '--')}/snapshots/1a2b"
    cached = configured(tmp_path / inside, published(224))
    assert describe(cached, str(cached)).kind == NAMES[name]


@pytest.mark.parametrize(
    ("card", "kind"),
    [
        ("Transformers PaliGemma 3B weights, pre-trained with 224*224 input", "pt"),
        ("weights, fine-tuned with 448*448 input\nimages on a mixture of", "mix"),
        ("PaliGemma 3B weights, fine-tuned with 448*448 input on DocVQA", "ft"),
        ("---\nbase_model: google/paligemma-3b-pt-224\n---\n# Mine", "unknown"),
        ("\udcff", "unknown"),
    ],
)
def test_the_kind_is_told_by_the_card(tmp_path: Path, card: str, kind: str) -> None:
    folder = configured(tmp_path, published(224))
    (folder / "README.md").write_bytes(card.encode("utf-8", "surrogateescape"))
    about = describe(folder, "x")
    assert about.kind == kind
    assert about.because.startswith("README.md says" if kind != "unknown" else "the fi")


def test_a_base_is_named_and_not_taken_for_the_kind(tmp_path: Path) -> None:
    base = {"_name_or_path": "google/paligemma-3b-pt-224"}
    about = describe(configured(tmp_path, published(224) | base), "x")
    assert about.kind == "unknown"
    assert about.because == (
        "saved from google/paligemma-3b-pt-224, perhaps after fine-tuning"
    )


def test_shards_are_counted_and_their_bytes_added(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "x")
    files = describe(folder, "x").files
    assert files is not None
    assert len(files.names) == 3
    assert files.bytes == sum(f.stat().st_size for f in folder.glob("*.safetensors"))
    assert files.tensors == len(random_tensors())
    assert files.dtypes == ("F32",)


def test_an_index_alone_tells_what_it_can(tmp_path: Path, info: Told) -> None:
    folder = write_shards(tmp_path / "x")
    for shard in folder.glob("*.safetensors"):
        shard.unlink()
    index = folder / "model.safetensors.index.json"
    listed = json.loads(index.read_text(encoding="utf-8"))
    index.write_text(json.dumps(listed | {"metadata": {"total_size": 5_846_932_960}}))
    told = info(folder)
    assert f"{len(random_tensors())} tensors in 3 files, 3 of them not here\n" in told
    assert "5,846,932,960 bytes (5.85 GB)\n" in told
    index.write_text(json.dumps({"weight_map": {"a": "b.safetensors"}}))
    assert "1 tensors in 1 file, 1 of them not here" in info(folder)
    index.write_text(json.dumps({"weight_map": ["a"]}))
    assert main(["info", str(folder)]) == 1


def test_files_that_hold_other_numbers_than_the_config_asks_for_are_noted(
    tmp_path: Path, info: Told
) -> None:
    tensors = random_tensors()
    tensors.pop("language_model.model.norm.weight")
    told = info(write_checkpoint(tmp_path / "x", tensors))
    total = sum(x.size for x in tensors.values())
    assert f"the files hold {total:,} numbers, config.json asks for" in told


def test_a_hub_name_is_told_without_its_weights(tmp_path: Path) -> None:
    """Offline, out of a cache that holds the small files alone."""
    repository = tmp_path / "hub/models--google--paligemma-3b-pt-224"
    snapshot = configured(repository / "snapshots" / ("1a" * 20), published(224))
    of = {"vision_tower.vision_model.x": "model-00001-of-00003.safetensors"}
    index = {"metadata": {"total_size": 11_693_865_920}, "weight_map": of}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("1a" * 20)
    name = "google/paligemma-3b-pt-224"
    with process("info", name, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path)) as asking:
        out, err = asking.communicate(timeout=60)
    told = out.decode()
    assert (asking.returncode, err) == (0, b"")
    assert told.startswith(f"{name}\n  family        PaliGemma 1, 3B\n")
    assert "kind          pt (its name is paligemma-3b-pt-224)" in told
    assert "11,693,865,920 bytes (11.7 GB)" in told
    assert "revision      main; generate takes the branch bfloat16 where" in told
    assert "note: a pt checkpoint expects a task" in told


# --- the command ----------------------------------------------------------------------


def test_the_miniature_is_told_as_it_is(info: Told) -> None:
    told = info(MINIATURE)
    for row in [
        r"family +PaliGemma 1, 2\.1 million parameters",
        r"kind +miniature \(it is the bundled one\)",
        r"pictures +112 × 112 pixels, 64 soft tokens each",
        r"weights +109 tensors in 1 file",
        r"names +as published",
        r"total +2,098,816",
        r"memory for 1 row of 164 positions, by --dtype",
        r"bfloat16 is what the files hold: mapped, and not converted",
    ]:
        assert re.search(row, told), row


def test_no_line_is_longer_than_a_terminal(tmp_path: Path, info: Told) -> None:
    large = configured(tmp_path / "paligemma2-28b-pt-896", published_2_at("28b", 896))
    for words in [[MINIATURE], [MINIATURE, "--prompts"], [large], [large, "--prompts"]]:
        lines = info(*words).splitlines()
        assert max(len(line) for line in lines if line != str(large)) <= 80


def test_more_positions_take_more_memory(info: Told) -> None:
    few, many = (
        json.loads(info(MINIATURE, "--json", "--tokens", n))["memory"]["bytes"]
        for n in ["100", "1000"]
    )
    for dtype in HELD_DTYPES:
        assert many[dtype]["cache"] == 10 * few[dtype]["cache"]
        assert many[dtype]["total"] > few[dtype]["total"]
        assert many[dtype]["weights"] == few[dtype]["weights"]


@pytest.mark.parametrize("n", ["0", "-3", "many", "²", "1" * 20])
def test_positions_that_are_none_are_a_usage_error(n: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["info", MINIATURE, "--tokens", n])


def test_programs_are_told_everything(info: Told) -> None:
    told = json.loads(info(MINIATURE, "--json"))
    assert told["parameters"]["total"] == 2_098_816
    assert told["files"]["dtypes"] == ["BF16"]
    assert told["soft_tokens"] == 64
    assert told["config"]["vision"]["image_size"] == 112
    assert {"prompt": "caption en"}.items() <= told["prompts"][0].items()
    bill = told["memory"]["bytes"]["float32"]
    assert bill["total"] == bill["weights"] + bill["cache"] + bill["activations"]


def test_a_pt_checkpoint_is_told_to_expect_a_task(tmp_path: Path, info: Told) -> None:
    pt = configured(tmp_path / "paligemma-3b-pt-224", published(224))
    assert "note: a pt checkpoint expects a task" in info(pt)
    mix = configured(tmp_path / "paligemma-3b-mix-224", published(224))
    assert "note:" not in info(mix)
    assert prompts_of(pt, "pt") == PRETRAINED
    assert prompts_of(mix, "mix") == MIX
    assert "What is on the flower?" in info(mix, "--prompts")
    assert "What is on the flower?" not in info(pt, "--prompts")


def test_a_fine_tune_is_told_to_know_its_own_task_alone(
    tmp_path: Path, info: Told
) -> None:
    ft = configured(tmp_path / "paligemma-3b-ft-docvqa-896", published(896))
    mix = configured(tmp_path / "paligemma-3b-mix-224", published(224))
    assert "note: this is a fine-tune: it answers only" in info(ft, "--prompts")
    assert "fine-tune" not in info(mix, "--prompts")
    assert "fine-tune" not in info(MINIATURE, "--prompts")
    (ft / "README.md").write_text("| prompt | answer |\n|---|---|\n| `a` | b |\n")
    assert "fine-tune" not in info(ft, "--prompts")


def test_an_archive_is_one_line(command: Command, tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"PK")
    ran = command("info", tmp_path / "x.npz")
    assert_one_line(ran, 1)
    assert "info reads config.json, which an .npz lacks; give a folder" in ran.err


def test_the_prompts_of_the_miniature_are_those_of_its_card(info: Told) -> None:
    card = (bundled(MINIATURE) / "README.md").read_text(encoding="utf-8")
    table = card[
        card.index("| prompt | answer |") : card.index("`detect red circle ; ")
    ]
    rows = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    told = info(MINIATURE, "--prompts")
    assert len(rows) >= 13
    for prompt in rows:
        assert re.search(rf"^{re.escape(prompt)}  +\S", told, re.MULTILINE), prompt
    assert "`" not in told
    assert "0 to 5; numbers" in told  # a span of code that ends is not one that begins
    listed = json.loads(info(MINIATURE, "--json"))["prompts"]
    assert [row["prompt"] for row in listed] == rows


def test_a_broken_folder_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "x"
    shutil.copytree(bundled(MINIATURE), folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert main(["info", str(folder)]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith(f"error: {weights}: expected a whole safetensors file")
    assert err.count("\n") == 1
