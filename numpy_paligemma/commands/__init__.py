"""The command line: ``numpy-paligemma [demo | generate | info | trace | compare] …``.

Text goes to stdout and nothing else does; notes, warnings and progress go to stderr.
Exit status: 0, 1 for a bad input (one line), 2 for usage, 130 for Ctrl-C; `compare` has
diff's own, 0 for no difference, 1 for one, 2 for trouble.
"""

import io
import logging
import os
import sys
from collections.abc import Callable, Sequence

from numpy_paligemma import __version__
from numpy_paligemma.commands import compare, demo, generate, info, trace

COMMANDS: dict[str, Callable[[Sequence[str]], int | None]] = {
    "compare": compare.run,
    "demo": demo.run,
    "generate": generate.run,
    "info": info.run,
    "trace": trace.run,
}
SUMMARY = """\
usage: numpy-paligemma [generate] --image FILE --prompt TEXT [options]
       numpy-paligemma info MODEL
       numpy-paligemma trace --image FILE --prompt TEXT --out FILE.safetensors
       numpy-paligemma compare A B
       numpy-paligemma demo [--draw OUT.png] [--profile]

PaliGemma in plain NumPy: answer a prompt about a picture.

  generate   answer a prompt about a picture (the word may be left out)
  info       what a checkpoint is, and what it costs to run
  trace      write every intermediate array of one forward pass into a file
  compare    where two traces part, and why
  demo       tell what the sample picture shows, and where, with the bundled miniature

numpy-paligemma generate --help lists the options, --version says which this is.
"""


def entry() -> None:
    """Run the command line and leave with its exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # where the encoding lacks a letter, its number is better than half an answer
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(main(sys.argv[1:]))


def main(argv: Sequence[str]) -> int:
    """Run the command line on `argv`, without the program's name: the exit status."""
    handler = _notes_to_stderr()
    try:
        return _run(argv)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # whoever read has gone; without this Python complains once more as it closes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except MemoryError as error:
        print(f"error: not enough memory: {error}", file=sys.stderr)
    except (ValueError, OSError, OverflowError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    finally:
        logging.getLogger("numpy_paligemma").removeHandler(handler)
    return 1


def _run(argv: Sequence[str]) -> int:
    """Find the command and run it; what goes wrong is raised."""
    first, *rest = argv or [""]
    if first in {"", "-h", "--help"}:
        print(SUMMARY, end="", file=sys.stdout if first else sys.stderr)
        return 0 if first else 2
    if first == "--version":
        print(f"numpy-paligemma {__version__}")
    elif first in COMMANDS:
        return COMMANDS[first](rest) or 0
    elif first.startswith("-"):
        generate.run(argv)
    else:
        known = " or ".join(COMMANDS)
        print(f"error: no such command: {first!r}; expected {known}", file=sys.stderr)
        return 2
    return 0


def _notes_to_stderr() -> logging.Handler:
    """Let the package's notes and warnings through, a line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("numpy_paligemma")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    return handler
