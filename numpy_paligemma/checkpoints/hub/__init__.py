"""A model's name into a folder: bundled, on this disk, or downloaded from the hub."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from numpy_paligemma.checkpoints.big_vision.archive import SUFFIX
from numpy_paligemma.checkpoints.hub.errors import HubError, HubUnreachableError
from numpy_paligemma.checkpoints.hub.files import check_room, choose, download, on_disk
from numpy_paligemma.checkpoints.typed import typed_path

if TYPE_CHECKING:
    from numpy_paligemma.checkpoints.hub.client import Repository

MINIATURE = "miniature"
WAYS_OUT = "give a folder, or try --model miniature, which is here already"


def bundled(name: str) -> Path:
    """Find what ships with the package: the `miniature` folder or `sample.jpg`.

    In a wheel it lies inside the package, in a checkout in its own place.
    """
    package = Path(__file__).parents[2]
    shipped = package / "bundled" / name
    checkout = package.parent / "weights"
    places = {
        MINIATURE: checkout / MINIATURE,
        "sample.jpg": checkout / "samples/paper.jpg",
    }
    return shipped if shipped.exists() else places[name]


def checkpoint_folder(
    model: str,
    *,
    dtype: str = "bfloat16",
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
) -> Path:
    """Find a checkpoint's folder or file, downloading it where its name is a hub's.

    Only the files that are needed; a download that broke off goes on where it was.

    Parameters
    ----------
    model : str
        "miniature", a folder, an `.npz`, or a hub name such as
        "google/paligemma-3b-pt-224".
    dtype : str
        As the matrices will be held. The published PaliGemma 1 has branches "bfloat16"
        and "float16" of half the size of its main branch: without a `revision` the
        branch of this name is taken where there is one.
    revision : str, optional
        A branch, tag or commit on the hub.
    token : str, optional
        An access token; by default the one that `hf auth login` left or `HF_TOKEN`.
    cache_dir : str, optional
        By default the hub's own cache, shared with other libraries.

    Returns
    -------
    Path

    Raises
    ------
    HubError
        If it cannot be had: no such name, gated, no network, no room; or if it is no
        PaliGemma, which is known before its weights are downloaded.
    """
    if not model:
        msg = f"model: expected a folder or a hub name, came an empty one; {WAYS_OUT}"
        raise HubError(msg)
    folder = typed_path(model)
    if model == MINIATURE or folder.is_dir() or _is_archive(folder):
        if revision is not None:
            msg = f"revision {revision!r}: {model} is on this disk and has just the one"
            raise HubError(msg + "; leave --revision out, or give a hub name")
        return bundled(MINIATURE) if model == MINIATURE else folder
    repo = _repository(model, "model", token, cache_dir, WAYS_OUT)
    try:
        listing, note = choose(repo, revision, dtype)
    except HubUnreachableError as error:
        return on_disk(repo, revision, dtype, error)
    download(repo, listing, note)
    repo.remember(listing)
    return repo.snapshot(listing.commit)


def _is_archive(place: Path) -> bool:
    """Tell an `.npz`; one that is not there is no hub's name either."""
    if place.suffix == SUFFIX and not place.is_file():
        msg = f"{place}: no such file; expected a checkpoint of big_vision's; "
        raise HubError(msg + WAYS_OUT)
    return place.suffix == SUFFIX


def hub_file(
    repo: str,
    filename: str,
    *,
    repo_type: Literal["model", "dataset", "space"],
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
    instead: str | None = None,
) -> Path:
    """Fetch one file of a repository of the hub's: its place in the cache.

    Parameters
    ----------
    repo : str
        Such as "big-vision/paligemma-hf".
    filename : str
        Its path in the repository.
    repo_type : {"model", "dataset", "space"}
    revision, token, cache_dir : str, optional
        As in `checkpoint_folder`.
    instead : str, optional
        The way out that an error names; by default to give the file's path.

    Returns
    -------
    Path

    Raises
    ------
    HubError
        If it cannot be had.
    """
    instead = instead or f"give the path of {filename}"
    there = _repository(repo, repo_type, token, cache_dir, instead)
    try:
        listing = there.listing(revision or "main")
    except HubUnreachableError:
        here = there.snapshot(revision or "main") / filename
        if here.is_file():
            return here
        raise
    if filename not in listing.files:
        msg = f"{repo} has no file {filename} (revision {listing.revision}); {instead}"
        raise HubError(msg)
    check_room(there, there.to_come(listing, [filename]))
    path = there.fetch(filename, listing)
    there.remember(listing)
    return path


def _repository(
    name: str, kind: str, token: str | None, cache_dir: str | None, instead: str
) -> "Repository":
    """Refuse what cannot be a name or a token, before the network is asked."""
    strange = not name.isascii() or name.startswith((".", "~", "/"))
    if strange or name.count("/") != 1:
        msg = f"{name}: expected a folder or a hub name (owner/name), found neither; "
        raise HubError(msg + instead)
    if token is not None and not re.fullmatch(r"[!-~]+", token):
        msg = "token: expected one word, such as hf_…, found a space or other letters; "
        raise HubError(msg + "see https://huggingface.co/settings/tokens")
    from numpy_paligemma.checkpoints.hub.client import Repository  # noqa: PLC0415  slow

    return Repository(name, kind, token, cache_dir, instead)
