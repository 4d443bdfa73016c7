"""Names into folders, with a hub of our own on 127.0.0.1: what is told when it fails."""

import json
import logging
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from command_line import Command, assert_one_line
from hub_server import Fault, Hub, Repository, commit_of, serving, sha256
from huggingface_hub import close_session, constants
from PIL import Image
from test_command import process
from tiny import write_checkpoint, write_shards

from numpy_paligemma import load_hf_model
from numpy_paligemma.checkpoints.hub import (
    MINIATURE,
    HubError,
    bundled,
    checkpoint_folder,
    hub_file,
)
from numpy_paligemma.checkpoints.hub.errors import said

EXTRA = ["README.md", "model.bin", "tokenizer.json"]
LARGE = 24_000_000  # more than the library holds in memory before it writes (10 MiB)
HELD = 10 << 20
FOREVER = 1 << 30
ROUNDED = "; its numbers are rounded to bfloat16, those of float32 are not on it"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a checkpoint whose weights are long, and mean nothing."""
    folder = write_checkpoint(tmp_path_factory.mktemp("large") / "checkpoint")
    noise = np.random.default_rng(0).bytes(LARGE)
    (folder / "model.safetensors").write_bytes(noise)
    return folder


@pytest.fixture
def hub(
    tiny_folder: Path, large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
    """Serve some repositories, and send the library there."""
    folder = copy(tiny_folder, tmp_path / "main")
    for name in EXTRA:
        (folder / name).write_text("{}")
    with serving() as hub:
        hub.tokens = {"hf_member", "hf_stranger"}
        hub.repositories = {
            "some/model": Repository({"main": folder}),
            "large/model": Repository({"main": large}),
            "gated/model": Repository({"main": tiny_folder}, members={"hf_member"}),
        }
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


@pytest.fixture
def notes(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Hear what is told besides errors."""
    caplog.set_level(logging.INFO, "numpy_paligemma")
    return caplog


def copy(folder: Path, to: Path) -> Path:
    to.mkdir(parents=True)
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to


def add_branch(hub: Hub, name: str, tmp_path: Path) -> Path:
    """Give some/model a branch, with a file that differs."""
    repo = hub.repositories["some/model"]
    folder = copy(repo.branches["main"], tmp_path / name)
    (folder / "generation_config.json").write_text(json.dumps({"branch": name}))
    repo.branches[name] = folder
    return folder


def told(model: str, **options: str) -> str:
    """Ask for what cannot be had; the one line that comes of it."""
    with pytest.raises(HubError) as caught:
        checkpoint_folder(model, **options)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    return str(caught.value)


def offline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()


# which files


def test_the_needed_files_are_fetched_and_no_others(hub: Hub, tmp_path: Path) -> None:
    cache = str(tmp_path / "elsewhere")
    folder = checkpoint_folder("some/model", cache_dir=cache)
    served = {
        path.name for path in hub.repositories["some/model"].branches["main"].iterdir()
    }
    assert {path.name for path in folder.iterdir()} == served - {*EXTRA}
    assert folder.is_relative_to(cache)
    assert hub.fetched() == served - {*EXTRA}
    model, _ = load_hf_model("some/model", device="cpu", cache_dir=cache)
    assert model.config.text.depth == 3


def test_without_a_tokenizer_model_its_json_is_fetched(hub: Hub) -> None:
    (hub.repositories["some/model"].branches["main"] / "tokenizer.model").unlink()
    assert (checkpoint_folder("some/model") / "tokenizer.json").is_file()


def test_all_shards_and_their_index_are_fetched_and_no_strays(
    hub: Hub, tmp_path: Path
) -> None:
    folder = write_shards(tmp_path / "x")
    strays = ["model-00001-of-00002.safetensors", "model.safetensors"]
    for name in strays:
        (folder / name).write_bytes(b"of another time")
    hub.repositories["some/model"].branches["main"] = folder
    here = checkpoint_folder("some/model")
    assert {p.name for p in here.iterdir()} == {p.name for p in folder.iterdir()} - {
        *strays
    }
    (folder / "model-00003-of-00003.safetensors").unlink()
    line = told("some/model")
    assert "the index names model-00003-of-00003.safetensors, not there" in line


def test_a_second_run_asks_once_and_fetches_nothing(hub: Hub) -> None:
    folder = checkpoint_folder("some/model", dtype="float32")
    hub.asked.clear()
    assert checkpoint_folder("some/model", dtype="float32") == folder
    assert hub.asked == ["/api/models/some/model/revision/main"]


# which branch


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_branch_of_the_dtype_is_taken_and_told_of(
    dtype: str, hub: Hub, tmp_path: Path, notes: pytest.LogCaptureFixture
) -> None:
    add_branch(hub, "bfloat16", tmp_path)
    add_branch(hub, "float16", tmp_path)
    hub.repositories["some/model"].dtypes["main"] = "float32"
    folder = checkpoint_folder("some/model", dtype=dtype)
    said = json.loads((folder / "generation_config.json").read_text())
    assert said == {"branch": dtype}
    (note,) = notes.messages
    assert note.startswith(
        f"taking the branch {dtype} of some/model (167.0 kB; main is "
    )
    assert note.endswith("float32, 167.0 kB): 166.5 kB to download")
    notes.clear()
    hub.asked.clear()
    assert checkpoint_folder("some/model", dtype=dtype) == folder
    assert notes.messages == [f"taking the branch {dtype} of some/model"]
    assert len(hub.asked) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_wider_dtypes_take_the_main_branch(
    dtype: str, hub: Hub, tmp_path: Path
) -> None:
    add_branch(hub, "bfloat16", tmp_path)
    folder = checkpoint_folder("some/model", dtype=dtype)
    assert not (folder / "generation_config.json").exists()
    load_hf_model("some/model", device="cpu", dtype=dtype)
    assert [*folder.parent.iterdir()] == [folder]


def test_a_revision_that_is_asked_for_is_taken(
    hub: Hub, tmp_path: Path, notes: pytest.LogCaptureFixture
) -> None:
    add_branch(hub, "bfloat16", tmp_path)
    main = checkpoint_folder("some/model", revision="main")
    assert not (main / "generation_config.json").exists()
    assert not any("branch" in note for note in notes.messages)
    commit = commit_of(hub.repositories["some/model"].branches["bfloat16"])
    folder = checkpoint_folder("some/model", revision=commit, dtype="float32")
    assert folder.name == commit


def test_no_branch_is_looked_for_where_main_holds_the_dtype(
    hub: Hub, tmp_path: Path
) -> None:
    add_branch(hub, "bfloat16", tmp_path)
    hub.repositories["some/model"].dtypes["main"] = "bfloat16"
    assert not (checkpoint_folder("some/model") / "generation_config.json").exists()
    assert "/api/models/some/model/refs" not in hub.asked


# without the hub


@pytest.mark.parametrize("branch", ["bfloat16", "main"])
def test_offline_the_branch_that_is_on_this_disk_is_taken(
    branch: str,
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    notes: pytest.LogCaptureFixture,
) -> None:
    add_branch(hub, "bfloat16", tmp_path)
    here = checkpoint_folder("some/model", revision=branch)
    notes.clear()
    offline(hub, monkeypatch)
    for dtype in ["bfloat16", "float32"]:
        assert checkpoint_folder("some/model", dtype=dtype) == here
        note = f"not asking the hub: {branch} of some/model, from this disk"
        rounded = dtype == "float32" and branch == "bfloat16"
        assert notes.messages[-1] == f"warning: {note}{ROUNDED}" if rounded else note
        level = logging.WARNING if rounded else logging.INFO
        assert notes.records[-1].levelno == level
    assert not hub.asked


def test_offline_is_told_and_so_is_what_is_not_all_there(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = checkpoint_folder("some/model")
    offline(hub, monkeypatch)
    expected = (
        "is not on this disk, or not all of it, and the hub is not asked: HF_HUB_"
    )
    assert told("some/other").startswith(f"some/other {expected}")
    assert told("some/model", revision="v2").startswith(f"some/model {expected}")
    for name in ["model.safetensors", "tokenizer.model", "preprocessor_config.json"]:
        target = (here / name).resolve()
        (here / name).unlink()
        assert told("some/model").startswith(f"some/model {expected}")
        (here / name).symlink_to(target)
    assert checkpoint_folder("some/model") == here
    assert not hub.asked


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_that_is_down_leaves_what_is_on_this_disk(
    hub: Hub, status: int, notes: pytest.LogCaptureFixture
) -> None:
    here = checkpoint_folder("some/model")
    hub.faults = [Fault("/api/", status=status)]
    notes.clear()
    assert checkpoint_folder("some/model") == here
    why = f"the hub cannot be asked now (it answered {status})"
    assert notes.messages == [f"{why}: main of some/model, from this disk"]
    assert str(status) in told("large/model")


def test_a_hub_that_is_away_does_not_hide_that_the_numbers_are_rounded(
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    notes: pytest.LogCaptureFixture,
) -> None:
    add_branch(hub, "bfloat16", tmp_path)
    here = checkpoint_folder("some/model")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    notes.clear()
    for options in [{}, {"revision": "bfloat16"}]:
        assert checkpoint_folder("some/model", dtype="float32", **options) == here
    why = "the hub cannot be asked now (no connection)"
    note = f"{why}: bfloat16 of some/model, from this disk"
    assert notes.messages == [f"warning: {note}{ROUNDED}", note]


def test_a_hub_that_cannot_be_reached_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    line = told("some/model", cache_dir=str(tmp_path))
    assert line.startswith(
        "some/model is not on this disk, or not all of it, and the hub cannot be "
        "reached (no connection);"
    )
    assert "--model miniature" in line


def test_a_hub_whose_name_is_not_known_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    too_long = "a." * 200 + "invalid"  # so that nobody on the network is asked
    monkeypatch.setattr(constants, "ENDPOINT", f"http://{too_long}")
    line = told("some/model", cache_dir=str(tmp_path))
    assert "cannot be reached (its name is not known to this network)" in line


@pytest.mark.parametrize("path", ["/revision/main", "/refs"])
def test_a_hub_that_does_not_answer_is_told(
    path: str, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.2)
    hub.faults = [Fault(path, wait=1, times=1)]
    line = told("some/model")
    assert "the hub cannot be reached (it did not answer in time)" in line


def test_a_proxy_that_refuses_is_told(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", hub.url)  # it knows no CONNECT
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.invalid")
    close_session()  # the next one reads the environment again
    line = told("some/model")
    close_session()
    assert line.startswith("some/model: the download failed (501 ")


# who may


@pytest.mark.parametrize(
    ("token", "who"), [(None, ""), ("hf_stranger", "as the account of your token, or ")]
)
def test_a_gated_model_is_told_with_where_to_accept_and_how_to_log_in(
    token: str | None, who: str, hub: Hub
) -> None:
    line = told("gated/model", **({"token": token} if token else {}))
    page = "https://huggingface.co/gated/model"
    assert line.startswith(
        f"gated/model is gated: accept its licence at {page}, {who}log in with "
        "`hf auth login` or HF_TOKEN; or give a folder"
    )
    assert "--model miniature" in line
    assert not hub.served


@pytest.mark.parametrize("by", ["argument", "HF_TOKEN"])
def test_a_token_opens_a_gated_model_and_is_shown_to_the_hub_alone(
    by: str, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by == "HF_TOKEN":
        monkeypatch.setenv(by, "hf_member")
    options = {"token": "hf_member"} if by == "argument" else {}
    assert checkpoint_folder("gated/model", **options).is_dir()
    assert hub.served
    assert not hub.tokens_at_store


def test_a_private_model_is_seen_with_its_token_alone(hub: Hub, tmp_path: Path) -> None:
    branch = add_branch(hub, "bfloat16", tmp_path)
    repo = hub.repositories["some/model"]
    repo.private, repo.members = True, {"hf_member"}
    line = told("some/model", token="hf_stranger")
    assert line.startswith("some/model: the hub has no such repository for you; log in")
    folder = checkpoint_folder("some/model", token="hf_member")
    assert folder.name == commit_of(branch)


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("hf_unknown", "the hub does not know this token (Invalid credentials in Auth"),
        ("two words", "token: expected one word, such as hf_…, found a space"),
        ("", "token: expected one word"),
        ("hf_ä", "token: expected one word"),
    ],
)
def test_a_token_that_is_none_is_told_without_showing_it(
    token: str, expected: str, hub: Hub
) -> None:
    line = told("some/model", token=token)
    assert expected in line
    assert not token or token not in line
    assert not hub.served


def test_a_token_without_the_right_is_told_in_the_hubs_words(hub: Hub) -> None:
    words = {"X-Error-Message": "Please enable access to public gated repositories."}
    hub.faults = [Fault("/resolve/", status=403, told=words)]
    line = told("some/model", token="hf_stranger")
    assert line.startswith(
        "some/model: the token may not read it (Please enable access to public gated "
        "repositories); see https://huggingface.co/settings/tokens"
    )


@pytest.mark.parametrize(
    ("model", "revision", "expected"),
    [
        (
            "nobody/model",
            "main",
            "nobody/model: the hub has no such repository for you; log in",
        ),
        (
            "some/model",
            "absent",
            "some/model has no revision 'absent'; see the branches",
        ),
    ],
)
def test_what_the_hub_does_not_have_is_told(
    hub: Hub,  # noqa: ARG001
    model: str,
    revision: str,
    expected: str,
) -> None:
    assert told(model, revision=revision).startswith(expected)


def test_a_portal_in_front_of_the_hub_is_told(hub: Hub) -> None:
    hub.faults = [Fault("/api/models", status=200)]
    assert told("some/model").startswith("some/model: the download failed (")


# what is no PaliGemma


def test_another_model_is_refused_by_name_before_its_weights_come(hub: Hub) -> None:
    folder = hub.repositories["some/model"].branches["main"]
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    line = told("some/model")
    assert line.startswith("some/model (revision main) does not run here, and was not ")
    assert 'found "llama"' in line
    assert hub.fetched() == {"config.json"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("readme.md", "has no config.json, so it is no model; give a folder"),
        (
            "adapter_config.json",
            "has no config.json, so it is a LoRA adapter: its base",
        ),
        ("paligemma-3b-pt-224.npz", "holds paligemma-3b-pt-224.npz, big_vision's form"),
        ("config.json", "has no weights in safetensors"),
    ],
)
def test_a_repository_in_another_form_is_told(
    name: str, expected: str, hub: Hub, tmp_path: Path
) -> None:
    there = hub.repositories["some/model"].branches
    config = (there["main"] / "config.json").read_bytes()
    there["main"] = tmp_path / "form"
    there["main"].mkdir()
    (there["main"] / name).write_bytes(config)
    assert told("some/model").startswith(f"some/model (revision main) {expected}")


# what breaks on the way


def fetched_whole(large: Path) -> None:
    weights = checkpoint_folder("large/model") / "model.safetensors"
    assert sha256(weights.resolve()) == sha256(large / "model.safetensors")
    assert not [*weights.resolve().parent.glob("*.incomplete")]


@pytest.mark.parametrize("reset", [False, True])
def test_a_connection_that_breaks_is_taken_up_where_it_broke(
    reset: bool, hub: Hub, large: Path
) -> None:
    store = f"GET /{sha256(large / 'model.safetensors')}"
    hub.faults = [Fault(store, cut=20_000_000, reset=reset, times=1)]
    fetched_whole(large)
    assert LARGE <= hub.served["model.safetensors"] <= LARGE + HELD


@pytest.mark.parametrize("status", [404, 500, 503])
def test_what_has_come_before_a_failure_is_kept_for_the_next_run(
    status: int, hub: Hub, large: Path
) -> None:
    store = f"GET /{sha256(large / 'model.safetensors')}"
    breaks = Fault(store, cut=20_000_000, reset=True, times=1)
    hub.faults = [breaks, Fault(store, status=status)]
    assert f"the hub answered {status}; try again" in told("large/model")
    hub.faults.clear()
    fetched_whole(large)
    assert LARGE <= hub.served["model.safetensors"] <= LARGE + HELD


def test_a_connection_that_breaks_at_every_byte_is_told(hub: Hub, large: Path) -> None:
    store = f"GET /{sha256(large / 'model.safetensors')}"
    hub.faults = [Fault(store, cut=1000, reset=True)]
    line = told("large/model")
    assert line.startswith("large/model: the connection broke; what has come is kept: ")
    hub.faults.clear()
    fetched_whole(large)


@pytest.mark.parametrize("longer", [False, True])
def test_a_file_of_another_length_is_told(longer: bool, hub: Hub, large: Path) -> None:
    store = f"GET /{sha256(large / 'model.safetensors')}"
    hub.faults = [] if longer else [Fault(store, length=1000)]
    sizes = hub.repositories["large/model"].sizes
    sizes |= {"model.safetensors": LARGE - 5} if longer else {}
    line = told("large/model")
    assert line.startswith("large/model: a file is not as long as the hub says (")
    hub.faults.clear()
    sizes.clear()
    fetched_whole(large)


def test_a_file_with_other_bytes_is_told_and_fetched_anew(
    hub: Hub, large: Path
) -> None:
    store = f"GET /{sha256(large / 'model.safetensors')}"
    hub.faults = [Fault(store, flip=True)]
    line = told("large/model")
    assert "model.safetensors is not what the hub says it is (SHA-256 " in line
    hub.faults.clear()
    fetched_whole(large)


def test_what_is_longer_than_the_file_is_thrown_away(hub: Hub, large: Path) -> None:
    blobs = Path(constants.HF_HUB_CACHE) / "models--large--model/blobs"
    blobs.mkdir(parents=True)
    part = blobs / f"{sha256(large / 'model.safetensors')}.incomplete"
    part.write_bytes(bytes(LARGE + 5))
    fetched_whole(large)
    assert hub.served["model.safetensors"] == LARGE


def test_a_link_loses_its_signature_before_it_is_told() -> None:
    error = ValueError("GET 'https://store/file?signature=secret' failed\nand more")
    assert said(error) == "GET 'https://store/file' failed"


def test_two_that_fetch_the_same_fetch_it_once(hub: Hub, large: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(checkpoint_folder, ["large/model"] * 2)
    assert first == second
    assert hub.served["model.safetensors"] == LARGE
    fetched_whole(large)


def test_the_command_says_what_it_does_and_why_it_failed_and_no_more(
    hub: Hub, large: Path, tmp_path: Path
) -> None:
    store = f"GET /{sha256(large / 'model.safetensors')}"
    hub.faults = [Fault(store, cut=1000, times=1), Fault(store, status=503)]
    words = ["--model", "large/model", "--image", bundled("sample.jpg")]
    there = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)}
    with process(*words, "--prompt", "x", **there) as asking:
        out, err = asking.communicate(timeout=60)
    assert (asking.returncode, out) == (1, b"")
    note, error, end = err.decode().split("\n")
    assert note == "large/model: 24.0 MB to download"
    assert error.startswith("error: large/model: the ")
    assert not end


def test_interrupted_it_leaves_with_130_and_keeps_what_has_come(
    hub: Hub, large: Path, tmp_path: Path
) -> None:
    hub.pause = 0.02  # 3 MB a second: a stalled machine has seconds to interrupt it
    words = [
        "--model",
        "large/model",
        "--image",
        bundled("sample.jpg"),
        "--prompt",
        "x",
    ]
    there = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)}
    with process(*words, **there) as asking:
        part = tmp_path / "hub/models--large--model/blobs"
        wait_for(
            lambda: any(p.stat().st_size for p in part.glob("*.incomplete")), asking
        )
        asking.send_signal(signal.SIGINT)
        out, err = asking.communicate(timeout=60)
    assert (asking.returncode, out) == (130, b"")
    assert err == b"large/model: 24.0 MB to download\n\ninterrupted\n"
    hub.pause = 0
    folder = checkpoint_folder("large/model", cache_dir=str(tmp_path / "hub"))
    weights = (folder / "model.safetensors").resolve()
    assert sha256(weights) == sha256(large / "model.safetensors")
    assert hub.served["model.safetensors"] < LARGE + 2 * HELD


def wait_for(reached, asking: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 30
    while not reached():
        assert asking.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)


# this disk


def test_too_little_room_is_told_before_the_download(hub: Hub) -> None:
    hub.repositories["some/model"].sizes["model.safetensors"] = 7 * 10**18
    line = told("some/model")
    assert line.startswith("some/model: 7,000,000,000.0 GB to download, but ")
    assert " GB free on /" in line
    assert not hub.served


def test_a_disk_that_is_full_is_told(hub: Hub, large: Path) -> None:
    blobs = Path(constants.HF_HUB_CACHE) / "models--large--model/blobs"
    blobs.mkdir(parents=True)
    part = blobs / f"{sha256(large / 'model.safetensors')}.incomplete"
    part.symlink_to("/dev/full")
    line = told("large/model")
    assert line.startswith("large/model: the disk is full; what has come is kept: ")
    part.unlink()
    fetched_whole(large)
    assert hub.served


def test_a_cache_that_cannot_be_written_is_told(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    line = told("some/model", cache_dir=str(tmp_path / "file" / "cache"))
    assert " cannot be written (Not a directory); set HF_HOME to a folder" in line
    assert not hub.served


def test_a_cache_that_may_not_be_written_serves_what_it_holds(
    hub: Hub, tmp_path: Path
) -> None:
    here = checkpoint_folder("some/model")
    hub.asked.clear()
    folders = [
        tmp_path / "cache",
        *(p for p in (tmp_path / "cache").rglob("*") if p.is_dir()),
    ]
    for folder in folders:
        folder.chmod(0o500)
    if os.access(tmp_path / "cache", os.W_OK):
        pytest.skip("who runs this may write everywhere")
    try:
        assert checkpoint_folder("some/model") == here
        assert len(hub.asked) == 2
        assert " cannot be written (Permission denied); set" in told("large/model")
    finally:
        for folder in folders:
            folder.chmod(0o700)


# what changes on the hub


def test_a_branch_that_has_changed_is_told_of_and_what_has_not_is_kept(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, notes: pytest.LogCaptureFixture
) -> None:
    before = checkpoint_folder("some/model")
    served = hub.served.copy()
    main = hub.repositories["some/model"].branches["main"]
    (main / "generation_config.json").write_text("{}")
    notes.clear()
    after = checkpoint_folder("some/model")
    assert before.name != after.name
    assert (
        notes.messages[0] == "main of some/model has changed on the hub; "
        f"--revision {before.name} stays with what was here"
    )
    assert hub.served == served
    offline(hub, monkeypatch)
    assert checkpoint_folder("some/model") == after
    assert checkpoint_folder("some/model", revision=before.name) == before


# one file


def test_one_file_of_a_space_is_fetched_and_kept(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = tmp_path / "space"
    space.mkdir()
    (space / "vae-oid.npz").write_bytes(b"codes")
    hub.repositories["some/space"] = Repository({"main": space})
    path = hub_file("some/space", "vae-oid.npz", repo_type="space")
    assert path.read_bytes() == b"codes"
    with pytest.raises(
        HubError, match=r"^some/space has no file x\.npz \(revision main"
    ):
        hub_file("some/space", "x.npz", repo_type="space")
    with pytest.raises(
        HubError, match=r"no such repository .* give the path of x\.npz$"
    ):
        hub_file("some/nothing", "x.npz", repo_type="space")
    offline(hub, monkeypatch)
    assert hub_file("some/space", "vae-oid.npz", repo_type="space") == path
    with pytest.raises(HubError, match=r"^some/space is not on this disk.*HF_HUB_OFF"):
        hub_file("some/space", "x.npz", repo_type="space")


# names


@pytest.mark.parametrize(
    "name",
    [
        *[
            "paligemma",
            "a/b/c",
            "./here",
            "../x",
            "/no/such",
            "~/no",
            "~no-such-user/x",
        ],
        *["a/b c", "-/-", "a/" + "b" * 99, "a//b", "ä/ö", "a/b.git", "a/.."],
    ],
)
def test_what_is_neither_folder_nor_hub_name_is_told(
    name: str, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = told(name)
    assert line.startswith(
        f"{name}: expected a folder or a hub name (owner/name), found"
    )
    assert not hub.asked


def test_a_folder_goes_before_a_hub_name(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some" / "model").mkdir(parents=True)
    assert checkpoint_folder("some/model") == Path("some/model")
    assert not hub.asked


def test_home_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = write_checkpoint(tmp_path / "weights")
    assert checkpoint_folder("~/weights") == folder


def test_the_bundled_names_are_found_without_a_network() -> None:
    assert checkpoint_folder(MINIATURE) == bundled(MINIATURE)
    assert bundled("sample.jpg").suffix == ".jpg"


# the command


def test_the_command_shows_no_bar_where_stderr_is_no_terminal(
    hub: Hub, tmp_path: Path
) -> None:
    Image.new("RGB", (3, 3)).save(tmp_path / "x.png")
    words = ["--model", "gated/model", "--image", tmp_path / "x.png", "--prompt", "ocr"]
    there = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    with process(*words, **there) as asking:
        out, err = asking.communicate(timeout=60)
    assert (asking.returncode, out) == (1, b"")
    assert err.startswith(
        b"error: gated/model is gated: accept its licence at https://"
    )
    assert err.count(b"\n") == 1


# --- info -----------------------------------------------------------------------------


def test_info_takes_a_token_and_names_the_way_out(
    hub: Hub, command: Command, tmp_path: Path
) -> None:
    hub.repositories["no/model"] = Repository({"main": tmp_path / "empty"})
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "README.md").write_text("nothing")
    ran = command("info", "no/model")
    assert_one_line(ran, 1)
    assert "has no file config.json" in ran.err
    assert "give a folder, or try" in ran.err
    assert command("info", "gated/model").status == 1
    ran = command("info", "gated/model", "--token", "hf_member")
    assert (ran.status, ran.err) == (0, "")
    assert "  revision      main; generate takes" in ran.out
    assert "revision" not in command("info", "miniature").out
