"""Make the miniature from nothing: ``python -m weights.training``.

Draws the pictures, trains the vocabulary, the mask VQ-VAE and the six phases, and
writes `weights/miniature`. Interrupted, the same command goes on where it was. With
``--from FOLDER`` the last two phases alone go on from a finished folder.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from torch.multiprocessing.spawn import spawn

from . import phases, schedule, tokenizer
from .data import make_data
from .export import export
from .mask_training import train_masks
from .vqvae import load_vqvae, write_codes

HERE = Path(__file__).parent
PLAN = (
    schedule.LOOK,
    schedule.PACK,
    schedule.EXACT,
    schedule.BOXES,
)
WITH_MASKS = (schedule.MASKS, schedule.POLISH)


def main() -> None:
    """Do everything that is not done yet."""
    args = parse()
    runs: Path = args.runs
    runs.mkdir(parents=True, exist_ok=True)
    prepare(args, runs)
    if args.start:
        start = "given"
        phases.given(args.start, runs, start, args.seed)
    else:
        train(args, PLAN, args.minutes[:4], "")
        start = phases.better(runs, ("pack", "exact", "boxes"))
    train(args, WITH_MASKS, args.minutes[4:], start)
    both = [runs / f"{phase.name}.pt" for phase in WITH_MASKS]
    export(both, runs / "tokenizer.model", args.to)


def prepare(args: argparse.Namespace, runs: Path) -> None:
    """Draw pictures, train vocabulary and mask VQ-VAE, and encode the masks."""
    make_data(runs / "validation", 1024, args.seed + 1, args.processes)
    make_data(runs / "data", args.pictures, args.seed, args.processes)
    if not (runs / "tokenizer.model").exists():
        (runs / "tokenizer.model").write_bytes(tokenizer.train())
    if not (runs / "vae.pt").exists():
        train_masks(runs / "vae.pt", 60 * args.mask_minutes, args.seed)
    vae = load_vqvae(runs / "vae.pt")
    for store in ("validation", "data"):
        write_codes(runs / store, vae)


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
        nargs=6,
        default=(18, 72, 9, 15, 64, 12),
        help="of looking, of packed, exact, boxes and masks training, and polish",
    )
    parser.add_argument("--mask-minutes", type=float, default=5, help="of the VQ-VAE")
    parser.add_argument(
        "--from",
        dest="start",
        type=Path,
        help="finished folder: the last two phases only",
    )
    return parser.parse_args()


def train(
    args: argparse.Namespace,
    plan: tuple[schedule.Phase, ...],
    minutes: list[float],
    start: str,
) -> None:
    """Run phases one after another, but those that are done."""
    for phase, some in zip(plan, minutes, strict=True):
        if not (args.runs / f"{phase.name}.done").exists():
            (args.runs / f"meeting-{phase.name}").unlink(missing_ok=True)
            timed = replace(phase, seconds=60 * some)
            task = (args.processes, args.runs, timed, start, args.seed)
            spawn(phases.learn, task, nprocs=args.processes)  # type: ignore[no-untyped-call]
        start = phase.name


if __name__ == "__main__":
    main()
