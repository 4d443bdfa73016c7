"""What is in a picture: kinds, colours, sizes and places drawn by chance, with a seed.

Two manners are mixed: `PLAIN` (light grounds, middling sizes, at most four shapes)
and `WIDE` (grounds from black to white, 14 to 90 pixels, any turn, outlines, shadows).
"""

import math
from dataclasses import dataclass

import numpy as np

from .colours import COLOURS, contrast, draw_shade
from .shapes import CIRCUMRADIUS, FACES, KINDS, NUMBER

GRID, PATCH = 8, 14
SIZE = GRID * PATCH
MOST = 5  # objects in a picture
GAP = 2  # pixels between two bounding boxes
ENOUGH, ENOUGH_FOR_NUMBERS = 95, 115  # contrast with the ground
APART = 5  # pixels between two centres in x, or "left to right" has no answer

Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Manner:
    """The ranges one kind of picture is drawn from."""

    shapes: tuple[float, ...]  # probability of 0, 1, 2, … shapes
    smallest: float
    largest: tuple[float, ...]  # diameter for 1, 2, … objects
    softest: float
    turned: float  # share of polygons turned by any angle
    tilted: float  # share turned by up to 12°
    outlined: float  # share of pictures
    shaded: float  # share of pictures with shadows
    digits: tuple[int, int]  # height
    number_tilted: float


PLAIN = Manner(
    shapes=(0.06, 0.19, 0.25, 0.25, 0.25),
    smallest=18,
    largest=(46, 42, 37, 32, 29),
    softest=1.7,
    turned=0,
    tilted=0.6,
    outlined=0,
    shaded=0,
    digits=(16, 27),
    number_tilted=0,
)
WIDE = Manner(
    shapes=(0.06, 0.18, 0.21, 0.2, 0.2, 0.15),
    smallest=14,
    largest=(90, 60, 44, 37, 31),
    softest=2.3,
    turned=0.35,
    tilted=0.4,
    outlined=0.2,
    shaded=0.15,
    digits=(14, 44),
    number_tilted=0.25,
)


@dataclass(frozen=True)
class Thing:
    """One object: what it is, how it looks, and the exact extent of its ink."""

    kind: int
    colour: int
    rgb: tuple[float, float, float]
    diameter: float
    turn: float
    stretch: float
    digits: str = ""
    face: str = ""
    gap: int = 0
    centre: tuple[float, float] = (0, 0)  # x, y


@dataclass(frozen=True)
class Ground:
    """The background and what all objects of a picture share."""

    rgb: np.ndarray  # (3,)
    slope: np.ndarray  # (2, 3): change of colour across the picture, in x and in y
    noise: float
    softness: float
    outline: float = 0  # pixels
    outline_rgb: tuple[float, float, float] = (0, 0, 0)
    shadow: float = 0  # 0 none … 1 black


def draw_ground(rng: np.random.Generator, manner: Manner) -> Ground:
    """Choose a background: white, grey or tinted, level or with a gentle gradient."""
    style = rng.random()
    if manner is PLAIN or style < 0.45:
        level, tint = rng.choice([[238, 9], [212, 4], [226, 22]], p=[0.45, 0.25, 0.3])
        low = 185
    else:
        level, tint = rng.uniform(0, 255 if style < 0.75 else 80), rng.uniform(3, 40)
        low = 0
    rgb = np.clip(level + rng.uniform(-tint, tint, 3) + rng.uniform(-8, 17), low, 255)
    steep = rng.uniform(0, 22) if rng.random() < 0.5 else 0
    slope = rng.uniform(-1, 1, (2, 1)) * steep * rng.uniform(0.7, 1, 3)
    outline, white = 0.0, contrast(rgb, np.full(3, 255.0)) > ENOUGH
    black = contrast(rgb, np.zeros(3)) > ENOUGH
    if rng.random() < manner.outlined:
        outline = rng.uniform(1, 2.5)
        white = white and not (black and rng.random() < 0.5)
    return Ground(
        rgb=rgb,
        slope=slope,
        noise=float(rng.choice([0, 1.5, 3.5, 6])),
        softness=rng.uniform(0.8, manner.softest),
        outline=outline,
        outline_rgb=(255, 255, 255) if white else (0, 0, 0),
        shadow=rng.uniform(0.15, 0.5) if rng.random() < manner.shaded else 0,
    )


def draw_colour(
    rng: np.random.Generator, ground: Ground, kind: int
) -> tuple[int, tuple[float, float, float]]:
    """Choose a colour that stands out from the ground; a yellow number only on dark."""
    while True:
        colour = int(rng.integers(len(COLOURS)))
        rgb = draw_shade(rng, colour)
        dark = float(ground.rgb.mean()) < 90
        if kind == NUMBER and COLOURS[colour] == "yellow" and not dark:
            continue
        enough = ENOUGH_FOR_NUMBERS if kind == NUMBER else ENOUGH
        if contrast(np.array(rgb), ground.rgb) > enough:
            return colour, rgb


def draw_things(
    rng: np.random.Generator, manner: Manner, ground: Ground
) -> list[Thing]:
    """Choose the objects of a picture, not yet placed."""
    shapes = int(rng.choice(len(manner.shapes), p=manner.shapes))
    numbers = int(shapes == 0 or (shapes < MOST and rng.random() < 0.45))
    kinds = [int(kind) for kind in rng.integers(NUMBER, size=shapes)]
    looks = [(kind, *draw_colour(rng, ground, kind)) for kind in kinds]
    if shapes > 1 and rng.random() < 0.35:
        alike = int(rng.integers(2, shapes + 1))
        kind, colour, _ = looks[0]
        looks[1:alike] = [(kind, colour, looks[0][2])] * (alike - 1)
    looks += [(NUMBER, *draw_colour(rng, ground, NUMBER))] * numbers
    largest = manner.largest[len(looks) - 1]
    things = [draw_thing(rng, manner, look, largest) for look in looks]
    return [things[i] for i in rng.permutation(len(things))]


def draw_thing(
    rng: np.random.Generator,
    manner: Manner,
    look: tuple[int, int, tuple[float, float, float]],
    largest: float,
) -> Thing:
    """Choose an object's size and turn; of a number also the digits and their face."""
    kind, colour, rgb = look
    if kind == NUMBER:
        return draw_number(rng, manner, look, largest)
    turn, chance = 0.0, rng.random()
    if KINDS[kind] != "circle" and chance < manner.turned + manner.tilted:
        most = math.pi if chance < manner.turned else math.radians(12)
        turn = rng.uniform(-most, most)
    largest = min(largest, 0.86 * SIZE / CIRCUMRADIUS.get(KINDS[kind], 1))
    logarithm = rng.uniform(math.log(manner.smallest), math.log(largest))
    return Thing(kind, colour, rgb, math.exp(logarithm), turn, rng.uniform(0.9, 1.1))


def draw_number(
    rng: np.random.Generator,
    manner: Manner,
    look: tuple[int, int, tuple[float, float, float]],
    largest: float,
) -> Thing:
    """Choose one to three digits without a leading zero."""
    length = int(rng.choice([1, 2, 3], p=[0.25, 0.35, 0.4]))
    digits = str(rng.integers(10 ** (length - 1) if length > 1 else 0, 10**length))
    low, high = manner.digits
    high = max(low, int(min(high, largest, 96 / (0.75 * length))))
    height = int(rng.integers(low, high + 1))
    turn = math.radians(rng.uniform(-9, 9))
    turn = turn if rng.random() < manner.number_tilted else 0
    face, gap = str(rng.choice(FACES)), int(rng.integers(1, 4))
    return Thing(*look, height, turn, 1.0, digits, face, gap)
