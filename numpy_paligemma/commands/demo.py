"""``numpy-paligemma demo``: the miniature tells what the sample shows, and where."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from numpy_paligemma.checkpoints.hub import MINIATURE, bundled
from numpy_paligemma.commands.generate import aloud, asker
from numpy_paligemma.commands.options import PROFILE_HELP, file_name
from numpy_paligemma.commands.progress import Progress
from numpy_paligemma.commands.stopwatch import Stopwatch
from numpy_paligemma.inputs.image import load_image
from numpy_paligemma.loading import load_hf_model
from numpy_paligemma.traces.profile import LOAD, PICTURE

CAPTION = "caption en"
WHERE = ("segment red circle", "segment blue star", "segment yellow triangle")


def run(argv: Sequence[str]) -> None:
    """Caption the sample picture, and say or draw where its shapes are."""
    from numpy_paligemma.answers.reading import (  # noqa: PLC0415  35 ms
        in_words,
        read_answer,
    )
    from numpy_paligemma.commands import picture, things  # noqa: PLC0415

    args = parser().parse_args(argv)
    watch = Stopwatch("auto", wanted=args.profile)
    source = str(bundled("sample.jpg"))
    if args.draw:
        picture.check_target(args.draw, [source])
    with watch.timed(PICTURE):
        image = load_image(source)
    decoder = partial(things.choose_decoder(None), bundled(MINIATURE))
    found = []
    with Progress(sys.stderr) as progress:
        with watch.timed(LOAD):
            model, processor = load_hf_model(MINIATURE)
        ask = asker(model, processor, [image], progress, watch)
        print(f"model {MINIATURE}, picture {source}\n{CAPTION}:", file=sys.stderr)
        "".join(aloud(ask(CAPTION, do_sample=False)))
        for prompt in WHERE:
            said = "".join(ask(prompt, do_sample=False))
            reading = read_answer(said, image.size, decoder=decoder)
            things.warn(reading)
            print(f"{prompt}:", file=sys.stderr)
            print("; ".join(map(in_words, reading.things)) or said, flush=True)
            found += reading.things
    if args.draw:
        picture.write_picture(args.draw, image, found, said)
    watch.tell()


def parser() -> argparse.ArgumentParser:
    """Make the parser."""
    p = argparse.ArgumentParser(
        "numpy-paligemma demo",
        description="Tell what the sample picture shows, and where.",
        allow_abbrev=False,
    )
    p.add_argument(
        "--draw", type=file_name, metavar="OUT.png", help="draw where, into this file"
    )
    p.add_argument("--profile", action="store_true", help=PROFILE_HELP)
    return p
