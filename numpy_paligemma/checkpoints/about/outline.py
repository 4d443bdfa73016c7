"""A checkpoint's small files: enough to describe it, without its gigabytes."""

import os
from contextlib import suppress
from pathlib import Path

from numpy_paligemma.checkpoints.hub import (
    MINIATURE,
    checkpoint_folder,
    hub_file,
)
from numpy_paligemma.checkpoints.hub.errors import HubError
from numpy_paligemma.checkpoints.safetensors import INDEX

CONFIG = "config.json"
WELCOME = (INDEX, "README.md")  # tell more, where a repository has them


def outline_folder(model: str, *, revision: str | None = None) -> Path:
    """Find a folder with a checkpoint's `config.json`, fetching it from the hub.

    Parameters
    ----------
    model : str
        "miniature", a folder, or a hub name.
    revision : str, optional
        A branch, tag or commit on the hub.

    Raises
    ------
    HubError
        If `config.json` cannot be had.
    """
    is_here = os.path.isdir(os.path.expanduser(model))  # noqa: PTH111, PTH112  ~nobody
    if model == MINIATURE or is_here:
        return checkpoint_folder(model, revision=revision)
    config = hub_file(model, CONFIG, repo_type="model", revision=revision)
    for name in WELCOME:
        with suppress(HubError):
            hub_file(model, name, repo_type="model", revision=revision)
    return config.parent
