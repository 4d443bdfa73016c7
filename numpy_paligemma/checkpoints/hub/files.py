"""Which branch of a repository to take, which of its files, and in what order."""

from __future__ import annotations

import logging
import shutil
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from numpy_paligemma.checkpoints.config import read_config
from numpy_paligemma.checkpoints.hub.errors import (
    OFFLINE,
    HubError,
    HubUnreachableError,
)
from numpy_paligemma.checkpoints.safetensors import INDEX, SINGLE, read_index
from numpy_paligemma.checkpoints.units import size_text

if TYPE_CHECKING:
    from pathlib import Path

    from numpy_paligemma.checkpoints.hub.client import Listing, Repository

log = logging.getLogger(__name__)
BRANCHES = ("bfloat16", "float16")  # what PaliGemma 1's repositories name by a dtype
SETTINGS = ("config.json", "generation_config.json")
IMAGES = ("preprocessor_config.json", "processor_config.json")
TOKENIZERS = ("tokenizer.model", "tokenizer.json")  # the second where the first is not
SHARDS = "model-*-of-*.safetensors"


def choose(
    repo: Repository, revision: str | None, dtype: str
) -> tuple[Listing, str | None]:
    """Choose the revision to take: that asked for, or the branch of the dtype.

    Returns
    -------
    listing : Listing
    note : str or None
        What to tell of it.
    """
    if revision is not None:
        return repo.listing(revision), None
    if dtype in BRANCHES and is_whole(repo.snapshot(dtype)):
        return repo.listing(dtype), f"taking the branch {dtype} of {repo.name}"
    main = repo.listing("main")
    if dtype not in BRANCHES or main.dtypes == {dtype} or dtype not in repo.branches():
        return main, None
    branch = repo.listing(dtype)
    sizes = [
        size_text(sum(a.files[name].size for name in needed(a))) for a in (branch, main)
    ]
    held = "".join(f" {name}," for name in sorted(main.dtypes))
    note = f"taking the branch {dtype} of {repo.name} ({sizes[0]}; "
    return branch, f"{note}main is{held} {sizes[1]})"


def download(repo: Repository, listing: Listing, note: str | None) -> None:
    """Fetch what is needed and not on this disk yet, the weights last.

    config.json goes first: what is no PaliGemma is refused before its gigabytes come.
    """
    _refuse_others(repo, listing)
    names = needed(listing)
    if INDEX in names:
        shards = {*read_index(repo.fetch(INDEX, listing)).values()}
        if gone := shards - {*listing.files}:
            msg = f"{repo.name}: the index names {', '.join(sorted(gone))}, not there"
            raise HubError(msg + f" (revision {listing.revision})")
        names = [n for n in names if n in shards or not fnmatchcase(n, SHARDS)]
    to_come = repo.to_come(listing, names)
    check_room(repo, to_come)
    _tell_of_change(repo, listing)
    if to_come:
        log.info("%s: %s to download", note or repo.name, size_text(to_come))
    elif note:
        log.info("%s", note)
    for name in sorted(names, key=lambda n: listing.files[n].size):
        repo.fetch(name, listing)


def on_disk(
    repo: Repository, revision: str | None, dtype: str, error: HubUnreachableError
) -> Path:
    """Take what an earlier run has fetched, where the hub cannot be asked.

    That may be another dtype's branch, with fewer digits than were asked for: told.
    """
    branches = [b for b in (dtype, "main", *BRANCHES) if b in {"main", *BRANCHES}]
    for name in [revision] if revision else branches:
        folder = repo.snapshot(name)
        if is_whole(folder):
            _tell_of_disk(repo, name, error.why, None if revision else dtype)
            return folder
    raise error


def _tell_of_disk(repo: Repository, name: str, why: str, dtype: str | None) -> None:
    """Tell what is taken and why; `dtype` is given where a branch was chosen by it."""
    asked = f"the hub cannot be asked now ({why})"
    note = "not asking the hub" if why == OFFLINE else asked
    note += f": {name} of {repo.name}, from this disk"
    if dtype is None or name in {dtype, "main"}:
        log.info("%s", note)
        return
    rounded = f"its numbers are rounded to {name}, those of {dtype} are not on it"
    log.warning("warning: %s; %s", note, rounded)


def needed(listing: Listing) -> list[str]:
    """List what is needed of a repository's files."""
    tokenizer = [name for name in TOKENIZERS if name in listing.files][:1]
    weights = [INDEX, SHARDS] if INDEX in listing.files else [SINGLE]
    patterns = [*SETTINGS, *IMAGES, *tokenizer, *weights]
    return [n for n in listing.files if any(fnmatchcase(n, p) for p in patterns)]


def is_whole(folder: Path) -> bool:
    """Say whether a folder holds a checkpoint, all its shards included."""
    index = folder / INDEX
    shards = read_index(index).values() if index.is_file() else [SINGLE]
    groups = [["config.json"], IMAGES, TOKENIZERS, *([shard] for shard in {*shards})]
    return all(any((folder / name).is_file() for name in group) for group in groups)


def check_room(repo: Repository, to_come: int) -> None:
    """Refuse before the download what the disk has no room for."""
    place = next(path for path in repo.folder.parents if path.exists())
    free = shutil.disk_usage(place).free
    if to_come > free:
        msg = f"{repo.name}: {size_text(to_come)} to download, but {size_text(free)} "
        msg += f"free on {place}; free some, or set HF_HOME to a place that has it"
        raise HubError(msg)


def _refuse_others(repo: Repository, listing: Listing) -> None:
    """Refuse a repository that is no PaliGemma, or not in a form that is read here."""
    files, at = listing.files, f"{repo.name} (revision {listing.revision})"
    originals = [name for name in files if name.endswith(".npz")]
    if "config.json" not in files and originals:
        msg = f"{at} holds {originals[0]}, big_vision's form: download that file and "
        raise HubError(msg + "give its path, or take the repository without -jax")
    if "config.json" not in files:
        adapter = "adapter_config.json" in files
        what = "a LoRA adapter: its base is the model" if adapter else "no model"
        msg = f"{at} has no config.json, so it is {what}; {repo.instead}"
        raise HubError(msg)
    for name in SETTINGS:
        if name in files:
            repo.fetch(name, listing)
    try:
        read_config(repo.snapshot(listing.commit))
    except ValueError as error:
        msg = f"{at} does not run here, and was not downloaded: {error}"
        raise HubError(msg) from error
    if not {INDEX, SINGLE} & {*files}:
        msg = f"{at} has no weights in safetensors: expected {SINGLE} or {INDEX}; "
        raise HubError(msg + repo.instead)


def _tell_of_change(repo: Repository, listing: Listing) -> None:
    """Tell that a branch is another one than an earlier run has fetched."""
    before = repo.snapshot(listing.revision)
    if before.exists() and before.name != listing.commit:
        log.info(
            "%s of %s has changed on the hub; --revision %s stays with what was here",
            *(listing.revision, repo.name, before.name),
        )
