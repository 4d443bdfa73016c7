"""A path as somebody typed it."""

import os
from os import PathLike
from pathlib import Path


def typed_path(text: str | PathLike[str]) -> Path:
    """Expand a leading ``~``; a home that nobody has stays as it is.

    `Path.expanduser` raises there, where "no such file" is what there is to say.
    """
    return Path(os.path.expanduser(text))  # noqa: PTH111
