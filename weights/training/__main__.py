"""Make the miniature from nothing: ``python -m weights.training``.

Draws the pictures, trains the vocabulary and the four phases, and writes
`weights/miniature`. Interrupted, the same command goes on where it was.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from torch.multiprocessing.spawn import spawn

from . import phases, schedule, tokenizer
from .data import make_data
from .export import export

HERE = Path(__file__).parent


def main() -> None:
    """Do everything that is not done yet."""
    args = parse()
    runs: Path = args.runs
    runs.mkdir(parents=True, exist_ok=True)
    make_data(runs / "validation", 1024, args.seed + 1, args.processes)
    make_data(runs / "data", args.pictures, args.seed, args.processes)
    if not (runs / "tokenizer.model").exists():
        (runs / "tokenizer.model").write_bytes(tokenizer.train())
    start = ""
    plan = (schedule.LOOK, schedule.PACK, schedule.EXACT, schedule.BOXES)
    for phase, minutes in zip(plan, args.minutes, strict=True):
        timed = replace(phase, seconds=60 * minutes)
        train(args.processes, runs, timed, start, args.seed)
        start = phase.name
    best = phases.better(runs, ("pack", "exact", "boxes"))
    export(runs / f"{best}.pt", runs / "tokenizer.model", args.to)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("weights.training", description=__doc__)
    parser.add_argument("--runs", type=Path, default=HERE / "runs", help="work folder")
    parser.add_argument("--to", type=Path, default=HERE.parent / "miniature")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pictures", type=int, default=180_000)
    parser.add_argument("--processes", type=int, default=2, help="one thread each")
    parser.add_argument(
        "--minutes",
        type=float,
        nargs=4,
        default=(18, 72, 9, 15),
        help="of looking, of packed, exact and boxes training",
    )
    return parser.parse_args()


def train(
    processes: int, runs: Path, phase: schedule.Phase, start: str, seed: int
) -> None:
    """Run a phase, unless it is done."""
    if (runs / f"{phase.name}.done").exists():
        return
    (runs / f"meeting-{phase.name}").unlink(missing_ok=True)
    args = (processes, runs, phase, start, seed)
    spawn(phases.learn, args, nprocs=processes)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
