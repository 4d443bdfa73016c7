"""The pictures on disk: drawn once, memory-mapped, each from its own seed."""

import multiprocessing
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from .labels import NO_DIGIT
from .painting import MASK, draw_scene
from .scenes import GRID, MOST, SIZE
from .truth import Fact

FIELDS: dict[str, tuple[tuple[int, ...], type]] = {
    "picture": ((SIZE, SIZE, 3), np.uint8),
    "kind": ((MOST,), np.int8),  # -1 where there is no object
    "colour": ((MOST,), np.int8),
    "box": ((MOST, 4), np.float32),  # left, top, right, bottom in pixels
    "digits": ((3,), np.int8),  # of the number, NO_DIGIT where there is none
    "owner": ((GRID * GRID,), np.int8),
    "digit": ((GRID * GRID,), np.int8),
    "mask": ((MOST, MASK * MASK // 8), np.uint8),  # each in its own box, packed bits
    "codes": ((MOST, 16), np.uint8),  # the mask's code words; see `vqvae.py`
}
Store = dict[str, np.ndarray]


def make_data(folder: Path, pictures: int, seed: int, workers: int) -> None:
    """Draw all pictures, unless they are there already."""
    done = folder / "done"
    if done.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for field, (shape, dtype) in FIELDS.items():
        np.lib.format.open_memmap(
            folder / f"{field}.npy", "w+", dtype, (pictures, *shape)
        )
    spans = np.array_split(np.arange(pictures), max(1, pictures // 500))
    with multiprocessing.Pool(workers) as pool:
        for _ in pool.imap_unordered(partial(draw_span, folder, seed), spans):
            pass
    done.touch()


def draw_span(folder: Path, seed: int, span: np.ndarray) -> None:
    """Draw the pictures of these numbers into the files."""
    store = open_data(folder, "r+")
    for i in span.tolist():
        scene = draw_scene(np.random.default_rng((seed, i)))
        here = len(scene.things)
        digits = "".join(thing.digits for thing in scene.things)
        store["picture"][i] = scene.picture
        store["kind"][i] = -1
        store["kind"][i, :here] = [thing.kind for thing in scene.things]
        store["colour"][i, :here] = [thing.colour for thing in scene.things]
        store["box"][i, :here] = scene.boxes
        store["digits"][i] = NO_DIGIT
        store["digits"][i, : len(digits)] = [int(digit) for digit in digits]
        store["owner"][i] = scene.owner
        store["digit"][i] = scene.digit
        store["mask"][i, :here] = np.packbits(scene.masks.reshape(here, -1), axis=1)


def open_data(folder: Path, mode: Literal["r", "r+"] = "r") -> Store:
    """Map the files."""
    return {field: np.load(folder / f"{field}.npy", mmap_mode=mode) for field in FIELDS}


def facts_about(store: Store, i: int) -> tuple[list[Fact], str]:
    """Return a stored picture's objects and its number's digits."""
    kinds = [kind for kind in store["kind"][i].tolist() if kind >= 0]
    colours, boxes = store["colour"][i].tolist(), store["box"][i].tolist()
    codes = [tuple(some) for some in store["codes"][i].tolist()]
    looks = zip(kinds, colours, boxes, codes, strict=False)
    digits = [str(digit) for digit in store["digits"][i].tolist() if digit < NO_DIGIT]
    return [Fact(*look) for look in looks], "".join(digits)
