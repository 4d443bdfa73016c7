"""What a trace says of itself, so that unlike things are not compared, and its name."""

import json
import platform
from collections.abc import Sequence
from importlib.metadata import version
from os import PathLike
from pathlib import Path

from numpy_paligemma.checkpoints.identity import config_sha256, weights_sha256
from numpy_paligemma.checkpoints.safetensors import read_metadata
from numpy_paligemma.checkpoints.typed import typed_path
from numpy_paligemma.traces.writing.whole import check_place

FORMAT = "numpy_paligemma trace 1"
SUFFIX = ".safetensors"


def about_run(
    place: Path,
    name: str,
    *,
    dtype: str,
    prompts: Sequence[str],
    adapter: str | PathLike[str] | None = None,
) -> dict[str, str]:
    """Describe what is run: checkpoint and prompts, as metadata of a trace.

    Parameters
    ----------
    place : Path
        Where the weights came from, such as `PaliGemma.source`.
    name : str
        What the checkpoint was asked for by. Of a path the last part is kept: where it
        lies on this disk is nobody's business.
    dtype : str
        How the matrices are held.
    prompts : sequence of str
        A row each.
    adapter : str or path, optional
        A LoRA adapter's folder, if it was merged in.
    """
    typed = typed_path(name)
    return {
        "checkpoint": typed.resolve().name if typed.exists() else name,
        "checkpoint_sha256": weights_sha256(place, adapter),
        "config_sha256": config_sha256(place),
        "dtype": dtype,
        "prompt": json.dumps(list(prompts)),
    }


def trace_target(path: str | PathLike[str]) -> Path:
    """Take the name that a trace is to have; refuse one where it cannot be written.

    A trace may replace another, but no other file: a checkpoint's are called alike.

    Raises
    ------
    ValueError, OSError
        One line.
    """
    target = typed_path(path)
    if target.suffix != SUFFIX:
        msg = f"{path}: expected a name that ends in {SUFFIX}, which is what is written"
        raise ValueError(msg)
    if target.is_dir():
        msg = f"{path}: expected a file to write the trace into, found a folder"
        raise ValueError(msg)
    check_place(target)
    full = target.exists() and target.stat().st_size > 0
    if full and read_metadata(target).get("format") != FORMAT:
        msg = f"{path} is there already and is no trace, so it is not replaced; "
        raise ValueError(msg + "give another name, or take it away first")
    return target


def versions() -> str:
    """Say with what the numbers were made, as JSON."""
    packages = ("numpy-paligemma", "numpy")
    made = {name.replace("-", "_"): version(name) for name in packages}
    return json.dumps(made | {"python": platform.python_version()})
