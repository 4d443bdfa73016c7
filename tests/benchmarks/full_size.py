"""Time a whole PaliGemma 3B against transformers, and print the README's tables.

    python tests/benchmarks/full_size.py FOLDER

Needs Linux, the extra `parity`, 24 GB of memory and the better part of an hour. A
random checkpoint (5.8 GB) is written into FOLDER where there is none, those of larger
pictures into FOLDER/448 and FOLDER/896. Then both sides take turns, each time in a
process of its own with the environment that a user has, on the same checkpoint,
pictures and prompt, the file warm in the page cache: import, load (the processor
included), picture and prompt to arrays, prefill, greedy tokens. The first call gives
the time from process start, with PyTorch's first-call work in it; a second one in the
same process the times that are free of it. A batch and the larger pictures are asked
once, and of further tokens the first two do not count. The tokenizer is the
miniature's: the published one, of 257,152 pieces, takes both sides longer to open.

Raw figures go to FOLDER/figures.jsonl (`--figures`), a line a process. Parts can be
run by themselves and added to it (`--add`), and it can be printed again (`--print`).
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple, TextIO

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent)]

from benchmarks.machine import describe
from benchmarks.table import OURS, PAIRS, SIZE, THEIRS, read_records, tables
from weights.random_checkpoint import write_random_checkpoint

SAMPLES = HERE.parents[1] / "weights" / "samples"
PICTURES = [  # the first for one row, all for eight
    str(SAMPLES / name)
    for name in (
        "paper.jpg",
        "chalkboard.jpg",
        "crayon.jpg",
        "neon.jpg",
        "plate.jpg",
        "poster.jpg",
        "stickers.jpg",
        "watercolour.jpg",
    )
]
PROMPT = "caption en"
SET_BY_SOME = ("OPENBLAS_", "OMP_", "MKL_", "GOTO_", "BLIS_", "KMP_", "VECLIB_")
CHUNK = 1 << 24  # bytes read at a time


class Job(NamedTuple):
    """One process to run."""

    side: str
    dtype: str
    size: int
    batch: int

    @property
    def calls(self) -> list[int]:
        """How many tokens each call asks for."""
        return [3, 14] if self.batch == 1 and self.size == SIZE else [7]


def jobs(a: argparse.Namespace) -> Iterator[Job]:
    """List a round's processes, the two sides in turn."""
    for size, batch, dtype, side in product(a.sizes, a.batch, a.dtypes, a.sides):
        at_all = side == OURS or dtype in PAIRS.values()
        in_full = size == SIZE or (batch == 1 and dtype == "bfloat16")
        if at_all and in_full:
            yield Job(side, dtype, size, batch)


def run(job: Job, folder: Path, *, work: bool) -> dict[str, object]:
    """Run one process on a warm file: its figures."""
    weights = folder / "model.safetensors"
    warm(weights)
    command = [HERE / "side.py", job.side, job.dtype, folder, PROMPT]
    command += [*PICTURES[: job.batch], "--calls", *job.calls]
    command += ["--work"] if work else []
    found = child([*command, f"--started={time.monotonic()}"])
    return job._asdict() | {"file_bytes": weights.stat().st_size} | found


def child(command: list[object]) -> dict[str, object]:
    """Run one of our programs as a user would: what it printed in its last line."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        env=users_environment(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{done.stderr}{' '.join(map(str, command))}: exit {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def users_environment(environment: dict[str, str]) -> dict[str, str]:
    """Drop what sets threads and kernels; keep transformers from asking the hub."""
    kept = {k: v for k, v in environment.items() if not k.startswith(SET_BY_SOME)}
    return kept | {"HF_HUB_OFFLINE": "1"}


def warm(path: Path) -> None:
    """Read a file, so that its pages are in memory."""
    with path.open("rb", buffering=0) as file:
        while file.read(CHUNK):
            pass


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sides, dtypes = (OURS, THEIRS), tuple(PAIRS)
    parser.add_argument("folder", type=Path, help="a 224 px checkpoint, or where to")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", nargs="+", choices=sides, default=sides)
    parser.add_argument("--dtypes", nargs="+", choices=dtypes, default=dtypes)
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--sizes", nargs="+", type=int, default=[SIZE, 448, 896])
    parser.add_argument("--figures", type=Path, help="default: FOLDER/figures.jsonl")
    parser.add_argument("--add", action="store_true", help="to what is in that file")
    parser.add_argument("--print", action="store_true", help="print it, run nothing")
    return parser.parse_args()


def measure(a: argparse.Namespace, figures: Path) -> None:
    """Run every round, and write down each process as it ends."""
    folders = {size: a.folder / str(size) for size in a.sizes} | {SIZE: a.folder}
    for size in a.sizes:
        if not (folders[size] / "model.safetensors").is_file():
            print(f"writing {folders[size]} (5.8 GB)", file=sys.stderr)
            write_random_checkpoint(folders[size], size)
    with figures.open("a" if a.add else "w") as file:
        note(file, "machine", {"text": describe()})
        for number in range(a.rounds):
            note(file, "limits", child([HERE / "machine.py"]))
            for job in jobs(a):
                counts = number == 0 and job[0] == OURS and job[2:] == (SIZE, 1)
                found = run(job, folders[job.size], work=counts)
                note(file, "run", found)
            note(file, "limits", child([HERE / "machine.py"]))


def note(file: TextIO, kind: str, fields: dict[str, object]) -> None:
    """Add a line to the raw figures, and say so."""
    print(json.dumps({"kind": kind} | fields), file=file, flush=True)
    told = " ".join(str(fields[k]) for k in Job._fields if k in fields)
    print(time.strftime("%H:%M:%S"), kind, told, file=sys.stderr)


def main() -> None:
    """Measure, unless told to print alone, and print."""
    a = arguments()
    figures = a.figures or a.folder / "figures.jsonl"
    if not a.print:
        measure(a, figures)
    print(tables(read_records(figures)))


if __name__ == "__main__":
    main()
