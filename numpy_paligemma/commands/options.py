"""The options of ``generate``, and what each may be."""

import argparse
import math
from collections.abc import Callable, Sequence

from numpy_paligemma.answers.detection import BOX_SCALES
from numpy_paligemma.arrays.device import DEVICES
from numpy_paligemma.arrays.hold import HELD_DTYPES

TELLING = ("--mask-decoder", "--box-scale")  # of use to --draw and --json alone
DEFAULT_MODEL = "google/paligemma-3b-pt-224"
MOST_THREADS = 1024
PROFILE_HELP = "after the answer, a table of where its time went (processor only)"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the words after ``generate``; usage errors leave with status 2."""
    p = parser()
    args = p.parse_args(argv)
    if (args.draw or args.json) and len(args.image) > 1:
        p.error(
            "--draw and --json take one --image: a box in an answer does not say which "
            f"of {len(args.image)} pictures it is in"
        )
    check_pictures(p, args.image)
    # what was given, be it the default: no other option's value begins with dashes
    given = {word.partition("=")[0] for word in argv}
    idle = [name for name in TELLING if name in given]
    if idle and not (args.draw or args.json):
        p.error(f"{idle[0]} does nothing without --draw or --json; add one of them")
    return args


def check_pictures(p: argparse.ArgumentParser, images: Sequence[str]) -> None:
    """Leave with a usage error where standard input would be read twice."""
    if images.count("-") > 1:
        p.error("--image - may be given once: standard input is one picture")


def parser() -> argparse.ArgumentParser:
    """Make the parser; the README's table of options repeats its help."""
    p = argparse.ArgumentParser(
        "numpy-paligemma generate",
        description="Answer prompts about a picture, one after the other.",
        allow_abbrev=False,
    )
    for add in (_add_question, _add_sampling, add_checkpoint, _add_telling):
        add(p.add_argument)
    return p


def _add_question(add: Callable[..., object]) -> None:
    """Add what is asked of which pictures."""
    add_pictures(add)
    add(
        "--prompt",
        required=True,
        action="append",
        metavar="TEXT",
        help='a task, such as "caption en"; may repeat, one look serves all',
    )


def add_pictures(add: Callable[..., object]) -> None:
    """Add which model is to look at which pictures."""
    add(
        "--model",
        default=DEFAULT_MODEL,
        help='hub name, folder, or "miniature" (default %(default)s)',
    )
    add(
        "--image",
        required=True,
        action="append",
        metavar="FILE",
        help="picture, or - for stdin; may repeat, all of them for each prompt",
    )


def _add_sampling(add: Callable[..., object]) -> None:
    """Add how tokens are drawn."""
    add(
        "--max-new-tokens",
        type=count,
        default=100,
        metavar="N",
        help="where to stop (default %(default)s)",
    )
    add(
        "--temperature",
        type=_temperature,
        default=0.8,
        metavar="T",
        help="0 is greedy, above 1 flattens the odds (default %(default)s)",
    )
    add(
        "--top-p",
        type=_share,
        default=0.9,
        metavar="P",
        help="draw from the fewest tokens that reach P together (default %(default)s)",
    )
    add("--seed", type=count, metavar="N", help="the same seed, the same answer")
    add("--no-sample", action="store_true", help="always the likeliest token (greedy)")


def add_checkpoint(add: Callable[..., object]) -> None:
    """Add where and how the checkpoint is held, and what of the hub."""
    add(
        "--device",
        choices=DEVICES,
        default="auto",
        help="auto: a GPU if CuPy has one (default %(default)s)",
    )
    add(
        "--dtype",
        choices=HELD_DTYPES,
        default="bfloat16",
        help="how to hold matrices (default %(default)s)",
    )
    add(
        "--threads",
        type=_threads,
        metavar="N",
        help="cores to use (default: all, or OMP_NUM_THREADS)",
    )
    add("--revision", help="a branch, tag or commit on the hub")
    add("--adapter", metavar="FOLDER", help="a LoRA adapter, merged into the model")
    add(
        "--token",
        metavar="HF_…",
        help="access token (default: HF_TOKEN, or what `hf auth login` left)",
    )


def _add_telling(add: Callable[..., object]) -> None:
    """Add how the answer is told."""
    add(
        "--draw",
        type=file_name,
        metavar="OUT.png",
        help="draw the answer's boxes and masks onto the picture, into this file",
    )
    add(
        "--json",
        action="store_true",
        help="print a line of JSON for each prompt: the answer, its boxes and masks "
        "in pixels",
    )
    add(
        "--mask-decoder",
        metavar="FILE",
        help='mask codes to masks: an .npz, or "vae-oid" from the hub; '
        "else the checkpoint's own",
    )
    add(
        "--box-scale",
        type=int,
        choices=BOX_SCALES,
        default=BOX_SCALES[0],
        help="what places are divided by: 1024 for some fine-tunes "
        "(default %(default)s)",
    )
    add("--profile", action="store_true", help=PROFILE_HELP)


def file_name(text: str) -> str:
    """Take a file's name, which is not empty."""
    if not text:
        msg = "expected a file's name, found ''"
        raise argparse.ArgumentTypeError(msg)
    return text


def count(text: str) -> int:
    """Read a whole number, nought or more."""
    if not (text.isdecimal() and len(text) < 10):
        msg = f"expected a whole number, 0 to 999999999, found {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def positive(text: str) -> int:
    """Read a whole number, one or more."""
    if not (text.isdecimal() and len(text) < 10 and int(text)):
        msg = f"expected a whole number above 0, found {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _threads(text: str) -> int:
    """Read a number of threads: far more than there are cores is a slip."""
    if (threads := positive(text)) > MOST_THREADS:
        msg = f"expected at most {MOST_THREADS}, found {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return threads


def _temperature(text: str) -> float:
    """Read a number, nought or more."""
    value = _number(text)
    if not 0 <= value < math.inf:
        msg = f"expected a number, 0 or more, found {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return value


def _share(text: str) -> float:
    """Read a number above nought, up to one."""
    value = _number(text)
    if not 0 < value <= 1:
        msg = f"expected a number in (0, 1], found {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return value


def _number(text: str) -> float:
    """Read a number; NaN, which no range holds, where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
