"""``numpy-paligemma generate``: answer a prompt about a picture."""

import argparse
import logging
import math
import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np

from numpy_paligemma.arrays.device import DEVICES
from numpy_paligemma.arrays.hold import HELD_DTYPES
from numpy_paligemma.commands.progress import Progress
from numpy_paligemma.inputs.image import load_image
from numpy_paligemma.paligemma import load_hf_model

log = logging.getLogger(__name__)
DEFAULT_MODEL = "google/paligemma-3b-pt-224"


def run(argv: Sequence[str]) -> None:
    """Answer a prompt about a picture, token by token, on stdout."""
    args = parser().parse_args(argv)
    if not args.prompt.strip():
        log.warning(
            "warning: the prompt is empty; PaliGemma expects a task, such as "
            '"caption en", "answer en what is this?", "detect cat" or "ocr"'
        )
    # first: a mistyped name should not have to wait for a checkpoint
    pictures = [load_image(name) for name in args.image]
    # weights that overflow end in one line of ours, without NumPy's warnings before it
    with np.errstate(all="ignore"), Progress(sys.stderr) as progress:
        progress.note(f"loading {args.model}")
        model, processor = load_hf_model(
            args.model,
            device=args.device,
            dtype=args.dtype,
            revision=args.revision,
            token=args.token,
        )
        inputs = processor([args.prompt], [pictures])
        tokens = model.stream(
            **inputs,
            max_new_tokens=args.max_new_tokens,
            temperature=args.temperature,
            top_p=args.top_p,
            do_sample=not args.no_sample,
            seed=args.seed,
            tap=progress.tap(model.config),
        )
        times: list[float] = []
        for text in processor.tokenizer.stream(_first_row(tokens, progress, times)):
            print(text, end="", flush=True)
        print(flush=True)
        if len(times) > 1:
            # the first came out of the prefill, which is another kind of work
            rate = (len(times) - 1) / (times[-1] - times[0])
            progress.note(f"{len(times)} tokens, {rate:.3g} a second after the first")


def _first_row(
    tokens: Iterator[np.ndarray], progress: Progress, times: list[float]
) -> Iterator[int]:
    """Pass on the one row's ids, and note when each came."""
    for ids in tokens:
        progress.clear()
        times.append(time.perf_counter())
        yield int(ids[0])


def parser() -> argparse.ArgumentParser:
    """Make the parser; the README's table of options repeats its help."""
    p = argparse.ArgumentParser(
        "numpy-paligemma generate",
        description="Answer a prompt about a picture.",
        allow_abbrev=False,
    )
    add = p.add_argument
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
        help="picture, or - for stdin; may repeat, all for the one prompt",
    )
    add("--prompt", required=True, metavar="TEXT", help='a task, such as "caption en"')
    add(
        "--max-new-tokens",
        type=_count,
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
    add("--seed", type=_count, metavar="N", help="the same seed, the same answer")
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
    add("--no-sample", action="store_true", help="always the likeliest token (greedy)")
    add("--revision", help="a branch, tag or commit on the hub")
    add(
        "--token",
        metavar="HF_…",
        help="access token (default: HF_TOKEN, or what `hf auth login` left)",
    )
    return p


def _count(text: str) -> int:
    """Read a whole number, nought or more."""
    if not (text.isdecimal() and len(text) < 10):
        msg = f"expected a whole number, 0 to 999999999, found {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


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
