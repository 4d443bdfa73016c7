"""What ``--json`` and ``--draw`` do: checked before there is an answer, done after."""

import argparse
from functools import partial
from pathlib import Path

from numpy_paligemma.answers.drawing import Picture, Thing
from numpy_paligemma.answers.reading import read_answer
from numpy_paligemma.commands.picture import check_target, write_picture
from numpy_paligemma.commands.things import choose_decoder, to_json, warn


class Teller:
    """Tells answers about one picture: a line of JSON each, a drawing of all at the end.

    Making one checks what can be checked before there is an answer: ValueError or
    OSError in one line where the drawing or the mask decoder cannot be had.
    """

    def __init__(self, args: argparse.Namespace, picture: Picture) -> None:
        if args.draw:
            check_target(args.draw, args.image)
        self.decoder = choose_decoder(args.mask_decoder)
        self.args, self.picture = args, picture
        self.things: list[Thing] = []
        self.said: list[str] = []

    def tell(self, prompt: str, said: str, source: Path) -> None:
        """Read an answer, print it where JSON is wanted, keep it for the drawing.

        `source` is where the model was loaded from: its own mask decoder lies there.
        """
        args, size = self.args, self.picture.size
        decoder = partial(self.decoder, source)
        reading = read_answer(said, size, scale=args.box_scale, decoder=decoder)
        warn(reading)
        self.things += reading.things
        self.said.append(said)
        if args.json:
            about = {"model": args.model, "prompt": prompt, "image": args.image[0]}
            print(to_json(reading, size, **about), flush=True)

    def draw(self) -> None:
        """Draw all things of all answers, where a drawing is wanted."""
        if self.args.draw:
            said = "; ".join(self.said)
            write_picture(self.args.draw, self.picture, self.things, said)
