"""From objects to pixels and labels: placing, painting, and what lies on each patch."""

import math
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from .labels import NO_DIGIT, label_digits, label_patches
from .scenes import (
    APART,
    GAP,
    GRID,
    PATCH,
    PLAIN,
    SIZE,
    WIDE,
    Box,
    Ground,
    Thing,
    draw_ground,
    draw_things,
)
from .shapes import (
    KINDS,
    NUMBER,
    coverage,
    distance_to_ellipse,
    distance_to_polygon,
    number_mask,
    polygon,
)

WIDE_SHARE = 0.7
MASK = 64  # side of a mask


@dataclass(frozen=True)
class Scene:
    """A picture and everything there is to know about it, objects left to right."""

    picture: np.ndarray  # (112, 112, 3) uint8
    things: list[Thing]
    boxes: list[Box]
    owner: np.ndarray  # (64,) int8: the object on a patch, NOBODY or NO_MATTER
    digit: np.ndarray  # (64,) int8: the digit on a patch or NO_DIGIT
    covered: np.ndarray  # (objects, 112, 112): share of each pixel that each covers
    masks: np.ndarray  # bool (objects, 64, 64): each in its own box; none of numbers


def draw_scene(rng: np.random.Generator, wide_share: float = WIDE_SHARE) -> Scene:
    """Draw one picture."""
    manner = WIDE if rng.random() < wide_share else PLAIN
    ground = draw_ground(rng, manner)
    placed: list[tuple[Thing, Box]] = []
    while not placed:
        placed = place(rng, draw_things(rng, manner, ground), ground)
    canvas = paint_ground(ground)  # (112, 112, 3) float32
    covered = np.stack([paint(canvas, thing, box, ground) for thing, box in placed])
    cells = covered.reshape(-1, GRID, PATCH, GRID, PATCH)
    digit = np.full(GRID * GRID, NO_DIGIT, np.int8)
    for thing, box in placed:
        if thing.kind == NUMBER:
            label_digits(digit, thing, box)
    canvas += rng.standard_normal(canvas.shape, np.float32) * ground.noise
    return Scene(
        np.clip(canvas + 0.5, 0, 255).astype(np.uint8),
        [thing for thing, _ in placed],
        [box for _, box in placed],
        label_patches(cells.mean((2, 4)).reshape(-1, GRID * GRID)),
        digit,
        covered,
        np.stack([mask_in_box(thing, ground) for thing, _ in placed]),
    )


def place(
    rng: np.random.Generator, things: list[Thing], ground: Ground
) -> list[tuple[Thing, Box]]:
    """Find a free spot for each object, largest first; drop those that find none."""
    placed: list[tuple[Thing, Box]] = []
    for thing in sorted(things, key=lambda thing: -thing.diameter):
        left, top, right, bottom = extent(thing, ground)
        fits = max(right - left, bottom - top) < SIZE - 4
        for _ in range(60 * fits):
            x = rng.uniform(1 - left, SIZE - 1 - right)
            y = rng.uniform(1 - top, SIZE - 1 - bottom)
            if thing.kind == NUMBER:  # digits lie on whole pixels
                x, y = math.floor(x + left) - left, math.floor(y + top) - top
            box = (x + left, y + top, x + right, y + bottom)
            if all(apart(box, other) for _, other in placed):
                placed.append((replace(thing, centre=(x, y)), box))
                break
    return sorted(placed, key=lambda pair: pair[1][0] + pair[1][2])


def apart(a: Box, b: Box) -> bool:
    """Tell whether two boxes keep their distance and have an order from left to right."""
    clear_x = a[0] - b[2] >= GAP or b[0] - a[2] >= GAP
    clear_y = a[1] - b[3] >= GAP or b[1] - a[3] >= GAP
    return (clear_x or clear_y) and abs(a[0] + a[2] - b[0] - b[2]) >= 2 * APART


def extent(thing: Thing, ground: Ground) -> Box:
    """Measure the ink of an object around its centre."""
    if thing.kind == NUMBER:
        height, width = written(thing).shape
        return (-width / 2, -height / 2, width / 2, height / 2)
    rim = ground.outline / 2
    if KINDS[thing.kind] == "circle":
        x, y = thing.diameter / 2 * thing.stretch + rim, thing.diameter / 2 + rim
        return (-x, -y, x, y)
    corners = corners_of(thing)
    (left, top), (right, bottom) = corners.min(0) - rim, corners.max(0) + rim
    return (float(left), float(top), float(right), float(bottom))


def corners_of(thing: Thing) -> np.ndarray:
    """Return a polygon's corners around its centre: (corners, 2)."""
    return polygon(KINDS[thing.kind], thing.diameter, thing.turn, thing.stretch)


def written(thing: Thing) -> np.ndarray:
    """Return a number's mask, turned and cropped to its ink: (height, width)."""
    mask, _ = number_mask(thing.digits, thing.face, int(thing.diameter), thing.gap)
    if thing.turn == 0:
        return mask
    drawn = Image.fromarray((mask * 255).astype(np.uint8))
    turned = drawn.rotate(
        -math.degrees(thing.turn), Image.Resampling.BICUBIC, expand=True
    )
    return np.asarray(turned.crop(turned.getbbox()), np.float32) / 255


def paint_ground(ground: Ground) -> np.ndarray:
    """Fill the canvas: (112, 112, 3) float32."""
    ramp = np.linspace(-1, 1, SIZE, dtype=np.float32)
    across = ramp[None, :, None] * ground.slope[0].astype(np.float32)
    down = ramp[:, None, None] * ground.slope[1].astype(np.float32)
    return ground.rgb.astype(np.float32) + across + down


def paint(canvas: np.ndarray, thing: Thing, box: Box, ground: Ground) -> np.ndarray:
    """Lay an object over the canvas in place; return its coverage, (112, 112)."""
    covered = np.zeros((SIZE, SIZE), np.float32)
    if thing.kind == NUMBER:
        mask = written(thing)
        left, top = round(box[0]), round(box[1])
        covered[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
        blend(canvas, covered, thing.rgb)
        return covered
    rows, columns, distance = distances(thing, box)
    if ground.shadow:
        cast_shadow(canvas, rows, columns, distance, ground)
    window = canvas[rows, columns]
    covered[rows, columns] = coverage(distance - ground.outline / 2, ground.softness)
    if ground.outline:
        blend(window, covered[rows, columns], ground.outline_rgb)
    body = coverage(distance + ground.outline / 2, ground.softness)
    blend(window, body, thing.rgb)
    return covered


def distances(thing: Thing, box: Box) -> tuple[slice, slice, np.ndarray]:
    """Measure the signed distance to a shape in a window that leaves it some room."""
    room = 6
    left, top = max(0, math.floor(box[0]) - room), max(0, math.floor(box[1]) - room)
    right, bottom = min(SIZE, int(box[2]) + room), min(SIZE, int(box[3]) + room)
    x = np.arange(left, right, dtype=np.float32) + 0.5 - thing.centre[0]
    y = np.arange(top, bottom, dtype=np.float32) + 0.5 - thing.centre[1]
    return slice(top, bottom), slice(left, right), distance_to(thing, x, y)


def distance_to(thing: Thing, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Measure the signed distance to a shape around the origin: (height, width)."""
    if KINDS[thing.kind] == "circle":
        return distance_to_ellipse(thing.diameter, thing.stretch, x, y)
    return distance_to_polygon(corners_of(thing), x, y)


def mask_in_box(thing: Thing, ground: Ground) -> np.ndarray:
    """Stretch a shape's inside, its outline included, to 64 × 64; empty for a number."""
    if thing.kind == NUMBER:
        return np.zeros((MASK, MASK), bool)
    left, top, right, bottom = extent(thing, ground)
    steps = (np.arange(MASK, dtype=np.float32) + 0.5) / MASK
    x, y = left + steps * (right - left), top + steps * (bottom - top)
    return distance_to(thing, x, y) < ground.outline / 2


def cast_shadow(
    canvas: np.ndarray,
    rows: slice,
    columns: slice,
    distance: np.ndarray,
    ground: Ground,
) -> None:
    """Darken the ground a little below and to the right of a shape, softly."""
    offset, blur = 2, 5
    shade = coverage(distance[:-offset, :-offset], blur) * ground.shadow
    window = canvas[rows, columns][offset:, offset:]
    window *= 1 - shade[..., None]


def blend(
    window: np.ndarray, share: np.ndarray, rgb: tuple[float, float, float]
) -> None:
    """Mix a colour into a window of the canvas, in place."""
    window += share[..., None] * (np.array(rgb, np.float32) - window)
