"""Names into folders, with a hub of our own on 127.0.0.1: what is told when it fails."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import close_session, constants
from PIL import Image
from test_command import process
from tiny import write_checkpoint, write_shards

from numpy_paligemma import load_hf_model
from numpy_paligemma.checkpoints.hub import (
    MINIATURE,
    NEEDED,
    HubError,
    bundled,
    checkpoint_folder,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"
EXTRA = ["README.md", "model.bin", "tokenizer.json"]


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does: one model, one gated, one that fails, no others."""

    folder: Path
    asked: list[str]

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """Answer without the bytes."""
        self.do_GET()

    def do_GET(self) -> None:
        """Answer for the owner's name that the path holds."""
        path = self.path.split("?")[0]
        self.asked.append(path)
        if reason := self.reason(path):
            return self.refuse(*reason)
        if "/portal/" in path:
            return self.send(200, b'"Please log in to this network"', {})
        if "/resolve/" in path:
            return self.send_file(path.rsplit("/", 1)[-1])
        files = [*sorted(p.name for p in self.folder.iterdir()), *EXTRA]
        body: object = {
            "id": "some/model",
            "sha": COMMIT,
            "siblings": [{"rfilename": name} for name in files],
        }
        if "/tree/" in path:
            body = [{"type": "file", "path": n, "size": 1, "oid": n} for n in files]
        return self.send(200, json.dumps(body).encode(), {})

    def reason(self, path: str) -> tuple[int, str | None] | None:
        """Say with which status, and which word of the hub's, a path is refused."""
        if "/gated/" in path and "/resolve/" in path:
            return 403, "GatedRepo"
        if "/broken/" in path:
            return 500, None
        if "/absent-branch" in path:
            return 404, "RevisionNotFound"
        known = any(f"/{owner}/" in path for owner in ["some", "gated", "portal"])
        return None if known else (401, "RepoNotFound")

    def refuse(self, status: int, code: str | None) -> None:
        """Fail as the hub fails: the reason stands in a header."""
        self.send(status, b"", {"X-Error-Code": code} if code else {})

    def send_file(self, name: str) -> None:
        """Give a file out, with the tags that it is cached by."""
        data = (self.folder / name).read_bytes()
        self.send(200, data, {"X-Repo-Commit": COMMIT, "ETag": f'"{len(data)}{name}"'})

    def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        """Write an answer."""
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def hub(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[type[Hub]]:
    """Serve the tiny checkpoint, and send the library there."""
    Hub.folder, Hub.asked = tiny_folder, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield Hub
    server.shutdown()
    thread.join()
    server.server_close()


def told(model: str, **options: str) -> str:
    """Ask for what cannot be had; the one line that comes of it."""
    with pytest.raises(HubError) as caught:
        checkpoint_folder(model, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_needed_files_are_fetched_and_no_others(
    hub: type[Hub], tmp_path: Path
) -> None:
    cache = str(tmp_path / "elsewhere")
    folder = checkpoint_folder("some/model", cache_dir=cache)
    assert {p.name for p in folder.iterdir()} == {p.name for p in hub.folder.iterdir()}
    assert folder.is_relative_to(cache)
    fetched = {path.rsplit("/", 1)[-1] for path in hub.asked if "/resolve/" in path}
    assert not fetched & set(EXTRA)
    model, _ = load_hf_model("some/model", device="cpu", cache_dir=cache)
    assert model.config.text.depth == 3


def test_all_shards_and_their_index_are_fetched(hub: type[Hub], tmp_path: Path) -> None:
    hub.folder = write_shards(tmp_path / "x")
    folder = checkpoint_folder("some/model")
    assert len(list(folder.glob("*.safetensors"))) == 3
    assert (folder / "model.safetensors.index.json").is_file()


def test_a_gated_model_is_told_with_where_to_accept_and_how_to_log_in(
    hub: type[Hub],  # noqa: ARG001
) -> None:
    line = told("gated/model")
    for part in [
        "gated/model is gated: accept its licence at https://huggingface.co/gated/model",
        "log in with `hf auth login` or HF_TOKEN",
        "give a folder",
        "--model miniature",
    ]:
        assert part in line


def test_the_command_shows_no_bar_where_stderr_is_no_terminal(
    hub: type[Hub],  # noqa: ARG001
    tmp_path: Path,
) -> None:
    Image.new("RGB", (3, 3)).save(tmp_path / "x.png")
    words = ["--model", "gated/model", "--image", tmp_path / "x.png", "--prompt", "ocr"]
    there = {"HF_ENDPOINT": constants.ENDPOINT, "HF_HOME": str(tmp_path / "home")}
    with process(*words, **there) as asking:
        out, err = asking.communicate(timeout=60)
    assert (asking.returncode, out) == (1, b"")
    assert err.startswith(
        b"error: gated/model is gated: accept its licence at https://"
    )
    assert err.count(b"\n") == 1


@pytest.mark.parametrize(
    ("model", "revision", "expected"),
    [
        (
            "nobody/model",
            "main",
            "nobody/model: the hub has no such model for you; log in",
        ),
        (
            "some/model",
            "absent-branch",
            "some/model has no revision 'absent-branch'; see",
        ),
        (
            "broken/model",
            "main",
            "broken/model: the hub answered 500; try again, or give",
        ),
        ("portal/model", "main", "portal/model: the download failed ("),
    ],
)
def test_what_the_hub_refuses_is_told_in_one_line(
    hub: type[Hub],  # noqa: ARG001
    model: str,
    revision: str,
    expected: str,
) -> None:
    assert told(model, revision=revision).startswith(expected)


def test_a_hub_that_cannot_be_reached_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    line = told("some/model", cache_dir=str(tmp_path))
    assert line.startswith(
        "some/model is not on this disk and the hub cannot be reached;"
    )
    assert "--model miniature" in line


def test_a_proxy_that_refuses_is_told(
    hub: type[Hub],  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", constants.ENDPOINT)  # it knows no CONNECT
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.invalid")
    close_session()  # the next one reads the environment again
    line = told("some/model")
    close_session()
    assert line.startswith("some/model: the download failed (501 ")


def test_offline_is_told_and_what_is_on_this_disk_is_found(
    hub: type[Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = checkpoint_folder("some/model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert checkpoint_folder("some/model") == here
    assert told("some/other").startswith("some/other is not on this disk and the hub ")
    assert not hub.asked


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
    name: str, hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = told(name)
    assert line.startswith(
        f"{name}: expected a folder or a hub name (owner/name), found"
    )
    assert not hub.asked


def test_a_folder_goes_before_a_hub_name(
    hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    assert "tokenizer.model" in NEEDED
