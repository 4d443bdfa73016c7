"""A checkpoint's small files: enough to describe it, without its gigabytes."""

from contextlib import suppress
from functools import partial
from pathlib import Path

from numpy_paligemma.checkpoints.big_vision.archive import SUFFIX
from numpy_paligemma.checkpoints.hub import (
    MINIATURE,
    WAYS_OUT,
    checkpoint_folder,
    hub_file,
)
from numpy_paligemma.checkpoints.hub.errors import HubError
from numpy_paligemma.checkpoints.safetensors import INDEX
from numpy_paligemma.checkpoints.typed import typed_path

CONFIG = "config.json"
WELCOME = (INDEX, "README.md")  # tell more, where a repository has them


def is_here(model: str) -> bool:
    """Tell what lies on this disk from a hub name."""
    return model == MINIATURE or typed_path(model).is_dir()


def outline_folder(
    model: str, *, revision: str | None = None, token: str | None = None
) -> Path:
    """Find a folder with a checkpoint's `config.json`, fetching it from the hub.

    Parameters
    ----------
    model : str
        "miniature", a folder, or a hub name.
    revision : str, optional
        A branch, tag or commit on the hub.
    token : str, optional
        An access token, as in `numpy_paligemma.checkpoints.hub.checkpoint_folder`.

    Raises
    ------
    HubError
        If `config.json` cannot be had, or `model` is an `.npz`.
    """
    if model.endswith(SUFFIX):
        msg = f"{model}: info reads config.json, which an .npz lacks; give a folder or "
        raise HubError(msg + "a hub name, or run generate on the file")
    if is_here(model):
        return checkpoint_folder(model, revision=revision, token=token)
    fetch = partial(
        hub_file,
        model,
        repo_type="model",
        revision=revision,
        token=token,
        instead=WAYS_OUT,
    )
    config = fetch(CONFIG)
    for name in WELCOME:
        with suppress(HubError):
            fetch(name)
    return config.parent
