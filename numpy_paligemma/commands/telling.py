"""What ``--json`` and ``--draw`` do: checked before there is an answer, done after."""

import argparse
from collections.abc import Callable
from functools import partial

from numpy_paligemma.answers.drawing import Picture
from numpy_paligemma.checkpoints.hub import checkpoint_folder
from numpy_paligemma.commands.picture import check_target, write_picture
from numpy_paligemma.commands.things import choose_decoder, read_answer, to_json


def teller(args: argparse.Namespace, picture: Picture) -> Callable[[str], None]:
    """Check what can be checked before there is an answer, and return what tells it."""
    if args.draw:
        check_target(args.draw, args.image)
    folder = partial(checkpoint_folder, args.model, revision=args.revision)
    decoder = choose_decoder(args.mask_decoder, folder)

    def tell(said: str) -> None:
        reading = read_answer(said, picture.size, scale=args.box_scale, decoder=decoder)
        if args.json:
            about = {"model": args.model, "prompt": args.prompt, "image": args.image[0]}
            print(to_json(reading, picture.size, **about), flush=True)
        if args.draw:
            write_picture(args.draw, picture, reading.things, said)

    return tell
