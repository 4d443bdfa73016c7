"""The hub's files in the cache on this disk: listed, fetched, gone on with after a break.

huggingface_hub does the talking, and lays out the cache, which other libraries share.
Its newer versions begin a file anew where the download before was killed, so a large
file's bytes are asked for here: by the library's own `http_get`, from the byte that is
still missing, into the blob of the cache's published layout, and held against the
SHA-256 that the hub names.
"""

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_download, hf_hub_url
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    WeakFileLock,
    build_hf_headers,
    get_session,
    hf_raise_for_status,
)

from numpy_paligemma.checkpoints.hub.errors import HubError, told
from numpy_paligemma.checkpoints.safetensors import PLAIN_NAMES

PROGRESS = 1 << 20  # bytes; where fewer came, to ask again would hardly help


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """What the hub says of a file."""

    size: int
    sha256: str | None  # of large files alone


@dataclass(frozen=True, slots=True)
class Listing:
    """A repository as it stands at one commit."""

    revision: str  # as it was asked for
    commit: str
    files: Mapping[str, RemoteFile]
    dtypes: frozenset[str]  # of the numbers in it, empty where the hub does not say


@dataclass(frozen=True, slots=True)
class Repository:
    """One repository of the hub's, and its place in the cache."""

    name: str
    kind: str  # "model", "dataset" or "space"
    token: str | None
    cache_dir: str | None
    instead: str  # what a user may do where it cannot be had

    @property
    def folder(self) -> Path:
        """Its folder in the cache."""
        cache = Path(self.cache_dir or constants.HF_HUB_CACHE).expanduser().absolute()
        with self.told(None):
            return cache / repo_folder_name(repo_id=self.name, repo_type=self.kind)

    def told(self, revision: str | None) -> AbstractContextManager[None]:
        """Tell in one line what goes wrong inside."""
        return told(self.name, revision, self.instead)

    def branches(self) -> set[str]:
        """Ask for the branches' names."""
        with self.told(None):
            answer = get_session().get(  # HfApi's own way waits for ever
                f"{constants.ENDPOINT}/api/{self.kind}s/{self.name}/refs",
                headers=build_hf_headers(token=self.token),
                timeout=constants.HF_HUB_ETAG_TIMEOUT,
            )
            hf_raise_for_status(answer)
            return {branch["name"] for branch in answer.json()["branches"]}

    def listing(self, revision: str) -> Listing:
        """Ask for the files at a branch, tag or commit."""
        with self.told(revision):
            info = HfApi().repo_info(
                self.name,
                repo_type=self.kind,
                revision=revision,
                token=self.token,
                timeout=constants.HF_HUB_ETAG_TIMEOUT,
                files_metadata=True,
            )
            files = {
                file.rfilename: RemoteFile(
                    file.size or 0, file.lfs.sha256 if file.lfs else None
                )
                for file in getattr(info, "siblings", None) or []
            }
            held = getattr(info, "safetensors", None)
            spelt = held.parameters if held else ()
            dtypes = frozenset(PLAIN_NAMES.get(dtype, dtype) for dtype in spelt)
            return Listing(revision, str(info.sha), files, dtypes)

    def snapshot(self, revision: str) -> Path:
        """Name the folder that a revision has on this disk, be it there or not."""
        ref = self.folder / "refs" / revision
        commit = ref.read_text(encoding="utf-8") if ref.is_file() else revision
        return self.folder / "snapshots" / commit

    def remember(self, listing: Listing) -> None:
        """Write down which commit a branch has, for when the hub cannot be asked."""
        ref = self.folder / "refs" / listing.revision
        if self.snapshot(listing.revision).name != listing.commit:
            with suppress(OSError):  # a cache that is only read serves as well
                ref.parent.mkdir(parents=True, exist_ok=True)
                ref.write_text(listing.commit, encoding="utf-8")

    def to_come(self, listing: Listing, names: Iterable[str]) -> int:
        """Count the bytes of some files that are not on this disk yet."""
        here = self.folder / "snapshots" / listing.commit
        files = [listing.files[name] for name in names if not (here / name).exists()]
        return sum(file.size - self._come(file) for file in files)

    def fetch(self, name: str, listing: Listing) -> Path:
        """Bring one file onto this disk, all of it or what is missing: its path."""
        file = listing.files[name]
        here = self.snapshot(listing.commit) / name
        if here.exists():
            return here
        with self.told(listing.revision):
            if file.sha256 is not None:
                self._fill_blob(name, file, file.sha256, listing.commit)
            return Path(
                hf_hub_download(
                    self.name,
                    name,
                    repo_type=self.kind,
                    revision=listing.commit,
                    token=self.token,
                    cache_dir=self.cache_dir,
                )
            )

    def _come(self, file: RemoteFile) -> int:
        """Count the bytes of a file that an earlier run has left."""
        if file.sha256 is None:
            return 0
        blob = self.folder / "blobs" / file.sha256
        return min(_size(blob) or _size(_part(blob)), file.size)

    def _fill_blob(self, name: str, file: RemoteFile, sha256: str, commit: str) -> None:
        """Fetch a large file's bytes from where an earlier run left off."""
        part = _part(blob := self.folder / "blobs" / sha256)
        lock = self.folder.parent / ".locks" / self.folder.name / f"{sha256}.lock"
        for parent in (part.parent, lock.parent):
            parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            if blob.exists():
                return
            self._append(name, file, part, commit)
            with part.open("rb") as bytes_:
                found = hashlib.file_digest(bytes_, "sha256").hexdigest()
            if found != sha256:
                part.unlink()
                msg = f"{self.name}: {name} is not what the hub says it is (SHA-256 "
                msg += f"{found[:12]}…, not {sha256[:12]}…); run it again"
                raise HubError(msg)
            part.replace(blob)

    def _append(self, name: str, file: RemoteFile, part: Path, commit: str) -> None:
        """Ask for the missing bytes, again and again as long as many come."""
        url = hf_hub_url(self.name, name, repo_type=self.kind, revision=commit)
        headers = build_hf_headers(token=self.token) | {"Accept-Encoding": "identity"}
        while True:
            if (before := _size(part)) > file.size:
                part.unlink()  # of a file that the hub said was longer
                before = 0
            try:
                with part.open("ab") as end:
                    http_get(
                        url,
                        end,
                        resume_size=before,
                        headers=headers,
                        expected_size=file.size or None,
                        displayed_filename=name,
                    )
            except Exception:
                if not before + PROGRESS <= _size(part) < file.size:
                    raise
            else:
                return


def _part(blob: Path) -> Path:
    """Name what there is of a large file while it is not all there."""
    return blob.with_name(f"{blob.name}.incomplete")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
