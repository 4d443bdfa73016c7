"""A model's name into a folder: bundled, on this disk, or downloaded from the hub."""

import os
from pathlib import Path
from typing import Literal

MINIATURE = "miniature"
NEEDED = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.model",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
)
WAYS_OUT = "give a folder, or try --model miniature, which is here already"


class HubError(OSError):
    """A checkpoint that cannot be had; the message is one line with the way out."""


def bundled(name: str) -> Path:
    """Find what ships with the package: the `miniature` folder or `sample.jpg`.

    In a wheel it lies inside the package, in a checkout in its own place.
    """
    package = Path(__file__).parents[1]
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
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
) -> Path:
    """Find a checkpoint's folder, downloading it where its name is a hub's.

    Parameters
    ----------
    model : str
        "miniature", a folder, or a hub name such as "google/paligemma-3b-pt-224".
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
        If it cannot be had: no such name, gated, no network, no room.
    """
    folder = Path(os.path.expanduser(model))  # noqa: PTH111  Path's raises for ~nobody
    if model == MINIATURE or folder.is_dir():
        if revision is not None:
            msg = f"revision {revision!r}: {model} is on this disk and has just the one"
            raise HubError(msg + "; leave --revision out, or give a hub name")
        return bundled(MINIATURE) if model == MINIATURE else folder
    _check_name(model)
    from huggingface_hub import snapshot_download  # noqa: PLC0415  slow to import

    try:
        return Path(
            snapshot_download(
                model,
                revision=revision,
                token=token,
                cache_dir=cache_dir,
                allow_patterns=list(NEEDED),
            )
        )
    except Exception as error:  # its HTTP library, and so its errors, vary by version
        raise HubError(_why(model, revision, error)) from error


def hub_file(
    repo: str,
    filename: str,
    *,
    repo_type: Literal["model", "dataset", "space"],
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
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

    Returns
    -------
    Path

    Raises
    ------
    HubError
        If it cannot be had.
    """
    _check_name(repo)
    from huggingface_hub import hf_hub_download  # noqa: PLC0415  slow to import

    try:
        return Path(
            hf_hub_download(
                repo,
                filename,
                repo_type=repo_type,
                revision=revision,
                token=token,
                cache_dir=cache_dir,
            )
        )
    except Exception as error:  # its HTTP library, and so its errors, vary by version
        raise HubError(_why(repo, revision, error)) from error


def _check_name(model: str) -> None:
    """Refuse what cannot be a hub's name."""
    if model.count("/") != 1 or model.startswith((".", "~", "/")):
        msg = f"{model}: expected a folder or a hub name (owner/name), found neither; "
        raise HubError(msg + WAYS_OUT)


def _why(model: str, revision: str | None, error: Exception) -> str:
    """Say in one line why a download failed, and what to do."""
    from huggingface_hub import errors  # noqa: PLC0415  slow to import

    if isinstance(error.__cause__, errors.HfHubHTTPError):
        error = error.__cause__  # it went on to look on this disk: not what went wrong
    page = f"https://huggingface.co/{model}"
    status = getattr(getattr(error, "response", None), "status_code", "an error")
    login = "log in with `hf auth login` or HF_TOKEN"
    said = str(error).strip().split("\n")[0] or type(error).__name__
    reasons: list[tuple[type[Exception], str]] = [  # the narrower first
        (
            errors.GatedRepoError,
            f"{model} is gated: accept its licence at {page}, {login}; or {WAYS_OUT}",
        ),
        (
            errors.RevisionNotFoundError,
            f"{model} has no revision {revision!r}; see the branches at {page}",
        ),
        (
            errors.RepositoryNotFoundError,
            f"{model}: the hub has no such model for you; {login}; or {WAYS_OUT}",
        ),
        (
            errors.HFValidationError,
            f"{model}: expected a folder or a hub name (owner/name), found neither",
        ),
        (
            errors.LocalEntryNotFoundError,
            f"{model} is not on this disk and the hub cannot be reached; {WAYS_OUT}",
        ),
        (
            errors.HfHubHTTPError,
            f"{model}: the hub answered {status}; try again, or {WAYS_OUT}",
        ),
    ]
    other = f"{model}: the download failed ({said}); {WAYS_OUT}"
    return next((text for kind, text in reasons if isinstance(error, kind)), other)
