"""``numpy-paligemma generate``: answer prompts about a picture."""

import argparse
import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, Unpack

import numpy as np

from numpy_paligemma.arrays.threads import use_threads
from numpy_paligemma.checkpoints.about.describe import kind_by_name
from numpy_paligemma.checkpoints.about.prompts import PRETRAINING_TASKS
from numpy_paligemma.commands.options import parse
from numpy_paligemma.commands.progress import Progress
from numpy_paligemma.commands.stopwatch import Stopwatch
from numpy_paligemma.inputs.image import ImageSource, load_image
from numpy_paligemma.inputs.processing import PaliGemmaProcessor
from numpy_paligemma.loading import load_hf_model
from numpy_paligemma.paligemma import Options, PaliGemma
from numpy_paligemma.traces.profile import LOAD, PICTURE

log = logging.getLogger(__name__)


def run(argv: Sequence[str]) -> None:
    """Answer prompts about a picture, token by token, on stdout."""
    args = parse(argv)
    watch = Stopwatch(args.device, wanted=args.profile)
    _warn_of_prompts(args)
    # first: a mistyped name should not have to wait for a checkpoint
    with watch.timed(PICTURE):
        pictures = [load_image(name) for name in args.image]
    teller = None
    if args.draw or args.json:
        from numpy_paligemma.commands.telling import Teller  # noqa: PLC0415  35 ms

        teller = Teller(args, pictures[0])
    # weights that overflow end in one line of ours, without NumPy's warnings before it
    with np.errstate(all="ignore"), Progress(sys.stderr) as progress:
        progress.note(f"loading {args.model}")
        with watch.timed(LOAD):
            model, processor = load_asked(args)
        ask = asker(model, processor, pictures, progress, watch)
        for prompt in args.prompt:
            pieces = ask(prompt, **_options(args))
            said = "".join(pieces) if args.json else "".join(aloud(pieces))
            if teller:
                teller.tell(prompt, said, model.source or Path())
    if teller:
        teller.draw()
    watch.tell()


def load_asked(args: argparse.Namespace) -> tuple[PaliGemma, PaliGemmaProcessor]:
    """Load the checkpoint that the options ask for, and use the cores they ask for."""
    use_threads(args.threads)
    return load_hf_model(
        args.model,
        device=args.device,
        dtype=args.dtype,
        revision=args.revision,
        token=args.token,
        adapter=args.adapter,
    )


def _options(args: argparse.Namespace) -> Options:
    """Gather what the model is told of how to answer."""
    return {
        "max_new_tokens": args.max_new_tokens,
        "temperature": args.temperature,
        "top_p": args.top_p,
        "do_sample": not args.no_sample,
        "seed": args.seed,
    }


def _warn_of_prompts(args: argparse.Namespace) -> None:
    """Warn of an empty prompt, and once where a pt checkpoint is asked without a task."""
    asked = [prompt for prompt in args.prompt if prompt.strip()]
    if len(asked) < len(args.prompt):
        log.warning(
            "warning: the prompt is empty; PaliGemma expects a task, such as "
            '"caption en", "answer en what is this?", "detect cat" or "ocr"'
        )
    kind, _ = kind_by_name(args.model.rstrip("/")) or ("", "")
    free = [prompt for prompt in asked if prompt.split()[0] not in PRETRAINING_TASKS]
    if args.adapter is None and kind == "pt" and free:
        log.warning(
            "warning: %r begins with no task; a pt checkpoint expects one: %s",
            *(free[0], ", ".join(PRETRAINING_TASKS)),
        )


class Ask(Protocol):
    """Answers one prompt, a piece of text at a time."""

    def __call__(self, prompt: str, /, **options: Unpack[Options]) -> Iterator[str]:
        """Answer; the speed is noted at the end."""


def asker(
    model: PaliGemma,
    processor: PaliGemmaProcessor,
    pictures: Sequence[ImageSource],
    progress: Progress,
    watch: Stopwatch,
) -> Ask:
    """Ask any number of prompts about pictures that are looked at once, when needed."""
    looks: list[np.ndarray] = []

    def ask(prompt: str, /, **options: Unpack[Options]) -> Iterator[str]:
        with watch.timed(PICTURE):
            inputs = processor([prompt], [list(pictures)])
        bar = progress.tap(model.config, looked=bool(looks))
        tap = watch.tap(model, bar)
        if not looks:
            looks.append(model.look(inputs["pixel_values"], tap))
        options |= {"soft_tokens": looks[0], "tap": tap}
        tokens = watch.tokens(model.stream(**inputs, **options))
        times: list[float] = []
        yield from processor.tokenizer.stream(_first_row(tokens, progress, times))
        if len(times) > 1:
            # the first came out of the prefill, which is another kind of work
            rate = (len(times) - 1) / (times[-1] - times[0])
            progress.note(f"{len(times)} tokens, {rate:.3g} a second after the first")

    return ask


def aloud(pieces: Iterable[str]) -> Iterator[str]:
    """Print text as it passes, and end the line behind it."""
    for text in pieces:
        print(text, end="", flush=True)
        yield text
    print(flush=True)


def _first_row(
    tokens: Iterator[np.ndarray], progress: Progress, times: list[float]
) -> Iterator[int]:
    """Pass on the one row's ids, and note when each came."""
    for ids in tokens:
        progress.clear()
        times.append(time.perf_counter())
        yield int(ids[0])
