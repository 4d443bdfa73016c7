"""The picture of an answer: refused before the work, or written whole."""

import logging
from collections.abc import Sequence
from pathlib import Path

from numpy_paligemma.answers.drawing import (
    Picture,
    Thing,
    check_ending,
    draw_things,
    encode,
)
from numpy_paligemma.commands.things import shortened
from numpy_paligemma.traces.writing.whole import WholeFile, check_place

log = logging.getLogger(__name__)


def check_target(target: str, images: Sequence[str]) -> None:
    """Refuse what cannot be written, or is one of the pictures that are read.

    Raises
    ------
    ValueError, OSError
        One line.
    """
    check_ending(target)
    path = Path(target)
    check_place(path)
    if path.is_dir():
        msg = f"{target}: expected a file to draw into, found a folder"
        raise ValueError(msg)
    if path.exists() and any(Path(i).exists() and path.samefile(i) for i in images):
        msg = f"{target} is the picture itself, which drawing would replace; "
        raise ValueError(msg + "give another name")


def write_picture(
    target: str, picture: Picture, things: Sequence[Thing], said: str
) -> None:
    """Draw things onto a picture, into a file: all of it, or what was there stays.

    What was `said` is shown where no thing is in it.

    Raises
    ------
    ValueError, OSError
        One line.
    """
    drawn = draw_things(picture, things)
    data = encode(drawn, target)
    with WholeFile(Path(target)) as file:
        file.write(data)
    if not things:
        log.info(
            "%s: the picture as it was, with no box in the answer: %s",
            target,
            shortened(said),
        )
    if drawn.width > picture.width:
        times = drawn.width // picture.width
        log.info("%s: drawn %d times as large, for the labels", target, times)
