"""Import a reader's file, and say in one line what keeps it from that."""

import sys
import textwrap
import traceback
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

from exercises.ladder import LADDER


class UnreadableLayersError(ValueError):
    """The reader's file does not load; the message is one line for them."""


def load(path: Path) -> dict[str, Any]:
    """Run a file, wherever it lies, as a module of its own; all that it defines."""
    module = ModuleType(f"layers_of_a_reader_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    sys.path.append(str(path.parent))  # its neighbours are at hand, as for a script
    try:
        with warnings.catch_warnings(action="ignore"):
            code = compile(path.read_bytes(), str(path), "exec")
            exec(code, vars(module))  # noqa: S102  the reader's own, on their machine
    except (Exception, SystemExit) as error:
        raise UnreadableLayersError(described(error, path)) from error
    return vars(module)


def described(error: BaseException, path: Path) -> str:
    """Say which error it is, and in which line of the file it arose."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if f.filename == str(path)]
    text = str(error)
    if isinstance(error, SyntaxError):
        lines, text = [error.lineno], error.msg
    elif isinstance(error, OSError) and not lines:
        text = str(error.strerror)  # without the path, which the caller names
    place = f" ({path.name}, line {lines[-1]})" if lines else ""
    short = textwrap.shorten(f"{type(error).__name__}: {text}", 150, placeholder=" …")
    return short.rstrip(": ") + place


def missing(error: NotImplementedError, name: str) -> str:
    """Name the unwritten layer that a written one calls."""
    last = traceback.extract_tb(error.__traceback__)[-1].name
    return f"waits for {last}" if last in LADDER and last != name else ""
