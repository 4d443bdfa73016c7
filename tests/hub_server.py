"""A hub of our own on 127.0.0.1: repositories, a store for large files, faults to order.

It answers what huggingface_hub's real client asks: the listing of a revision, the
branches, a file's head and its bytes. As on the hub, a large file is sent on to another
place (here another port) that knows byte ranges, and nothing of tokens.
"""

import hashlib
import json
import os
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

LARGE = (".safetensors", ".model", ".npz", "tokenizer.json")
PIECE = 1 << 16  # bytes written at a time
SPELT = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}


@dataclass
class Fault:
    """Something that goes wrong where a path holds `path`, `times` times.

    `status` answers that and no more, with the headers of `told`; `cut` ends the
    connection after so many bytes, `reset` rudely; `length` sends so many bytes and says
    that it is all; `flip` turns the first byte; `wait` waits so many seconds first.
    """

    path: str
    times: int = 1 << 30
    status: int | None = None
    told: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    reset: bool = False
    length: int | None = None
    flip: bool = False
    wait: float = 0


@dataclass
class Repository:
    """Branches, each a folder of files; open to all, or to some tokens alone.

    Gated, its files are refused to others; private, that there is one.
    """

    branches: dict[str, Path]
    members: set[str] | None = None
    private: bool = False
    dtypes: dict[str, str] = field(default_factory=dict)  # what the hub says is in them
    sizes: dict[str, int] = field(default_factory=dict)  # what it says falsely


class Hub:
    """What is served, what goes wrong, and what was asked."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.tokens: set[str] = set()
        self.faults: list[Fault] = []
        self.asked: list[str] = []
        self.tokens_at_store: list[str] = []
        self.served: Counter[str] = Counter()  # bytes of each large file
        self.pause = 0.0  # seconds after each piece
        self.url = self.store = ""
        self.large: dict[str, Path] = {}

    def fault(self, path: str) -> Fault:
        """Find what is to go wrong now."""
        for fault in self.faults:
            if fault.path in path and fault.times > 0:
                fault.times -= 1
                return fault
        return Fault("")

    def fetched(self) -> set[str]:
        """Name the files whose bytes were asked for, large or small."""
        resolved = [path for path in self.asked if "/resolve/" in path]
        return {path.rsplit("/", 1)[-1] for path in resolved}


def sha256(path: Path) -> str:
    """Hash a file as the hub does a large one."""
    return _hashed(path, path.stat().st_mtime_ns)


@lru_cache
def _hashed(path: Path, _: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def commit_of(folder: Path) -> str:
    """Name what a folder holds now."""
    words = [f"{path.name} {sha256(path)}" for path in sorted(folder.iterdir())]
    return hashlib.sha1("\n".join(words).encode()).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    """Run a hub and its store until the block ends."""
    hub = Hub()
    kinds = [type(kind.__name__, (kind,), {"hub": hub}) for kind in (Pages, Store)]
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), kind) for kind in kinds]
    hub.url, hub.store = (f"http://127.0.0.1:{s.server_port}" for s in servers)
    threads = [
        threading.Thread(target=s.serve_forever, args=(0.02,), daemon=True)
        for s in servers
    ]
    for server, thread in zip(servers, threads, strict=True):
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  whoever asked has gone
        thread.start()
    yield hub
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """Answer without the bytes."""
        self.do_GET()

    def do_GET(self) -> None:
        """Answer, or do what was ordered to go wrong."""
        path = unquote(self.path.split("?")[0])
        self.hub.asked.append(path)
        self.fault = self.hub.fault(f"{self.command} {path}")
        time.sleep(self.fault.wait)
        if self.fault.status is not None:
            return self.send(self.fault.status, b"", self.fault.told)
        return self.answer(path)

    def answer(self, path: str) -> None:
        """Answer a path."""
        raise NotImplementedError

    def refuse(self, status: int, code: str, message: str = "") -> None:
        """Fail as the hub fails: the reason stands in the headers."""
        self.send(status, b"", {"X-Error-Code": code, "X-Error-Message": message})

    def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        """Write an answer, as far as it is to come."""
        fault = self.fault
        if fault.reset:  # which throws away what is still underway: let it be little
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIECE)
        if fault.flip and body:
            body = bytes([body[0] ^ 1]) + body[1:]
        body = body if fault.length is None else body[: fault.length]
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.write(body if fault.cut is None else body[: fault.cut])
        if fault.reset:
            linger = struct.pack("ii", 1, 0)  # a reset, not an orderly end
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            os.close(self.connection.detach())

    def write(self, body: bytes) -> None:
        """Write bytes a piece at a time, and count what went."""
        for start in range(0, len(body), PIECE):
            piece = body[start : start + PIECE]
            self.wfile.write(piece)
            self.count(len(piece))
            if self.hub.pause:
                time.sleep(self.hub.pause)

    def count(self, bytes_: int) -> None:
        """Take note of bytes that went."""


class Pages(_Handler):
    """The hub itself: what it knows of repositories, and their small files."""

    def answer(self, path: str) -> None:
        """Answer for a repository's listing, its branches, or one of its files."""
        found = re.fullmatch(
            r"(?:/api)?(?:/(?:models|spaces))?/([^/]+/[^/]+)"
            r"(?:/(refs)|(?:/(?:revision|resolve)/([^/]+))(?:/(.+))?)?",
            path,
        )
        repo = self.hub.repositories.get(found[1]) if found else None
        if found is None or repo is None or self.token not in {"", *self.hub.tokens}:
            return self.refuse_stranger()
        if repo.private and self.token not in (repo.members or ()):
            return self.refuse_stranger()
        if found[2]:
            return self.send_branches(repo)
        return self.answer_at(found[1], repo, found[3] or "main", found[4])

    @property
    def token(self) -> str:
        """The token that was sent, or none."""
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def refuse_stranger(self) -> None:
        """Know neither the token nor, then, the repository."""
        if self.token in {"", *self.hub.tokens}:
            return self.refuse(404 if self.token else 401, "RepoNotFound")
        return self.refuse(401, "", "Invalid credentials in Authorization header")

    def answer_at(
        self, name: str, repo: Repository, revision: str, file: str | None
    ) -> None:
        """Answer for a revision: its listing, or a file of it."""
        commits = {commit_of(f): f for f in repo.branches.values()}
        folder = (repo.branches | commits).get(revision)
        if folder is None:
            return self.refuse(404, "RevisionNotFound")
        if file is None:
            return self.send_listing(name, repo, revision, folder)
        if repo.members is not None and self.token not in repo.members:
            return self.refuse(403 if self.token else 401, "GatedRepo")
        return self.send_file(folder, file)

    def send_branches(self, repo: Repository) -> None:
        """List the branches."""
        branches = [
            {"name": n, "ref": f"refs/heads/{n}", "targetCommit": commit_of(f)}
            for n, f in repo.branches.items()
        ]
        body = {"branches": branches, "converts": [], "tags": []}
        self.send(200, json.dumps(body).encode(), {})

    def send_listing(
        self, name: str, repo: Repository, revision: str, folder: Path
    ) -> None:
        """List the files with their sizes, large ones with their hash."""
        siblings: list[dict[str, object]] = []
        for path in sorted(folder.iterdir()):
            size = repo.sizes.get(path.name, path.stat().st_size)
            entry: dict[str, object] = {"rfilename": path.name, "size": size}
            if path.name.endswith(LARGE):
                entry["lfs"] = {"size": size, "sha256": sha256(path), "pointerSize": 1}
            siblings.append(
                entry | {"blobId": hashlib.sha1(path.name.encode()).hexdigest()}
            )
        body: dict[str, object] = {"id": name, "sha": commit_of(folder)}
        if dtype := repo.dtypes.get(revision):
            body["safetensors"] = {"parameters": {SPELT[dtype]: 1}, "total": 1}
        self.send(200, json.dumps(body | {"siblings": siblings}).encode(), {})

    def send_file(self, folder: Path, name: str) -> None:
        """Give a small file out, with the tags that it is cached by; or say where."""
        path = folder / name
        tags = {"X-Repo-Commit": commit_of(folder)}
        if not path.is_file():
            return self.send(404, b"", tags | {"X-Error-Code": "EntryNotFound"})
        if not name.endswith(LARGE):
            etag = hashlib.sha1(path.read_bytes()).hexdigest()
            return self.send(200, path.read_bytes(), tags | {"ETag": f'"{etag}"'})
        hashed = sha256(path)
        self.hub.large[hashed] = path
        tags["Location"] = f"{self.hub.store}/{hashed}?signature=secret"
        size = str(path.stat().st_size)
        tags |= {"X-Linked-ETag": f'"{hashed}"', "X-Linked-Size": size}
        return self.send(302, b"", tags)


class Store(_Handler):
    """Where the large files lie: by hash, whole or from a byte on."""

    def answer(self, path: str) -> None:
        """Give a file out, from the byte that was asked for."""
        if token := self.headers.get("Authorization"):
            self.hub.tokens_at_store.append(token)
        self.file = self.hub.large[path[1:]]
        size = self.file.stat().st_size
        start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
        tags = {"ETag": f'"{path[1:]}"', "Accept-Ranges": "bytes"}
        if start and start >= size:
            return self.send(416, b"", {"Content-Range": f"bytes */{size}"})
        if start:
            tags["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        with self.file.open("rb") as file:
            file.seek(start)
            return self.send(206 if start else 200, file.read(), tags)

    def write(self, body: bytes) -> None:
        """Write, and bear that whoever asked is gone."""
        with suppress(ConnectionError):
            super().write(body)

    def count(self, bytes_: int) -> None:
        """Count by file."""
        self.hub.served[self.file.name] += bytes_
