"""``numpy-paligemma demo``: the miniature tells what the sample shows, and where."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from numpy_paligemma.answers.detection import BOX_SCALES
from numpy_paligemma.checkpoints.hub import MINIATURE, bundled, checkpoint_folder
from numpy_paligemma.commands.generate import aloud, answer_pieces
from numpy_paligemma.commands.picture import check_target, write_picture
from numpy_paligemma.commands.progress import Progress
from numpy_paligemma.commands.things import (
    Reading,
    choose_decoder,
    in_words,
    read_answer,
)
from numpy_paligemma.inputs.image import load_image
from numpy_paligemma.paligemma import load_hf_model

CAPTION = "caption en"
WHERE = ("detect red circle", "detect blue star", "detect yellow triangle")


def run(argv: Sequence[str]) -> None:
    """Caption the sample picture, and say or draw where its shapes are."""
    args = parser().parse_args(argv)
    source = str(bundled("sample.jpg"))
    if args.draw:
        check_target(args.draw, [source])
    picture = load_image(source)
    with Progress(sys.stderr) as progress:
        model, processor = load_hf_model(MINIATURE)
        ask = partial(answer_pieces, model, processor, [picture], progress=progress)
        print(f"model {MINIATURE}, picture {source}\n{CAPTION}:", file=sys.stderr)
        "".join(aloud(ask(CAPTION, do_sample=False)))
        found = [
            _tell(prompt, "".join(ask(prompt, do_sample=False)), picture.size)
            for prompt in WHERE
        ]
    if args.draw:
        things = [thing for reading in found for thing in reading.things]
        write_picture(args.draw, picture, things, found[-1].text)


def _tell(prompt: str, said: str, size: tuple[int, int]) -> Reading:
    """Say in words where an answer points; an answer that does not as it is."""
    decoder = choose_decoder(None, partial(checkpoint_folder, MINIATURE))
    reading = read_answer(said, size, scale=BOX_SCALES[0], decoder=decoder)
    print(f"{prompt}:", file=sys.stderr)
    print("; ".join(map(in_words, reading.things)) or said, flush=True)
    return reading


def parser() -> argparse.ArgumentParser:
    """Make the parser."""
    p = argparse.ArgumentParser(
        "numpy-paligemma demo", description=__doc__, allow_abbrev=False
    )
    p.add_argument("--draw", metavar="OUT.png", help="draw where, into this file")
    return p
