"""A mask in its box: where it lies, how it is stretched, and boxes of every kind."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import STRETCHED

from numpy_paligemma.answers.paste import paste_mask

Box = tuple[float, float, float, float]

ALL = np.ones((64, 64), np.float32)
edges = st.floats(-50, 150)
sizes = st.tuples(st.integers(1, 90), st.integers(1, 90))


def smooth_mask(rng: np.random.Generator) -> np.ndarray:
    """Draw a mask of a few waves, so that its edge is long: float32 (64, 64)."""
    y, x = np.mgrid[:64, :64] / 64
    waves = [
        a * np.sin(b * x + c * y + d)
        for a, b, c, d in rng.normal(size=(6, 4)) * [1, 9, 9, 3]
    ]
    return np.sum(waves, axis=0).astype(np.float32)


def bilinear_weights(new: int, old: int) -> np.ndarray:
    """Build Pillow's filter as a matrix (new, old): triangles, wider where it shrinks."""
    scale = old / new
    centres = (np.arange(new) + 0.5) * scale
    distances = np.abs(np.arange(old) + 0.5 - centres[:, None]) / max(scale, 1)
    triangles = np.maximum(1 - distances, 0)
    return triangles / triangles.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    "box", [(3, 5, 67, 69), (0, 0, 200, 150), (10, 20, 41, 27), (190, 1, 199, 149)]
)
def test_a_mask_is_stretched_by_triangles(box: Box, rng: np.random.Generator) -> None:
    left, top, right, bottom = (int(edge) for edge in box)
    mask = smooth_mask(rng)
    rows = bilinear_weights(bottom - top, 64)
    stretched = rows @ mask @ bilinear_weights(right - left, 64).T
    found = paste_mask(mask, box, (200, 150))
    clear = np.abs(stretched) > STRETCHED * np.abs(mask).max()
    inside = found[top:bottom, left:right]
    assert 0.2 < inside.mean() < 0.8
    np.testing.assert_array_equal(inside[clear], stretched[clear] > 0)
    assert found.sum() == inside.sum()


def test_a_box_of_64_pixels_takes_the_mask_as_it_is(rng: np.random.Generator) -> None:
    mask = smooth_mask(rng)
    found = paste_mask(mask, (7, 11, 71, 75), (80, 90))
    np.testing.assert_array_equal(found[11:75, 7:71], mask > 0)
    assert found.shape == (90, 80)


def test_a_mask_of_ones_fills_its_box_and_nothing_else() -> None:
    found = paste_mask(ALL, (2, 3, 7, 5), (9, 6))
    expected = np.zeros((6, 9), bool)
    expected[3:5, 2:7] = True
    np.testing.assert_array_equal(found, expected)


def test_a_box_of_the_whole_picture_fills_it() -> None:
    assert paste_mask(ALL, (0, 0, 31, 17), (31, 17)).all()


@pytest.mark.parametrize("corner", [(0, 0), (30, 0), (0, 16), (30, 16), (12, 9)])
def test_a_box_of_one_pixel_is_one_pixel(corner: tuple[int, int]) -> None:
    x, y = corner
    found = paste_mask(ALL, (x, y, x + 1, y + 1), (31, 17))
    np.testing.assert_array_equal(np.argwhere(found), [[y, x]])


def test_fractions_of_a_pixel_are_cut_off() -> None:
    found = paste_mask(ALL, (2.99, 3.5, 7.01, 5.999), (9, 6))
    np.testing.assert_array_equal(found, paste_mask(ALL, (2, 3, 7, 5), (9, 6)))


def test_what_is_nought_is_outside() -> None:
    assert not paste_mask(0 * ALL, (0, 0, 9, 6), (9, 6)).any()
    assert not paste_mask(-0 * ALL, (0, 0, 9, 6), (9, 6)).any()


def test_left_and_top_of_the_mask_are_left_and_top_of_the_box() -> None:
    mask = -ALL
    mask[:32, :16] = 1
    found = paste_mask(mask, (10, 20, 42, 36), (50, 40))
    np.testing.assert_array_equal(np.argwhere(found).min(0), [20, 10])
    np.testing.assert_array_equal(np.argwhere(found).max(0), [27, 17])


@pytest.mark.parametrize(
    "box",
    [(5, 5, 5, 9), (5, 5, 9, 5), (9, 5, 5, 9), (5, 9, 9, 5), (5.2, 1, 5.9, 4)],
    ids=["no width", "no height", "right of left", "upside down", "under a pixel"],
)
def test_a_box_without_pixels_holds_nothing(box: Box) -> None:
    assert not paste_mask(ALL, box, (12, 10)).any()


@pytest.mark.parametrize(
    ("box", "same"),
    [
        ((-4, -0.5, 5, 3), (0, 0, 5, 3)),
        ((4, 2, 99, 1e300), (4, 2, 9, 6)),
        ((-math.inf, 1, math.inf, 2), (0, 1, 9, 2)),
        ((20, 1, 30, 2), (0, 0, 0, 0)),
        ((-9, 1, -3, 2), (0, 0, 0, 0)),
    ],
    ids=["left and above", "right and below", "endless", "beyond", "before"],
)
def test_edges_beyond_the_picture_are_moved_onto_its_edge(box: Box, same: Box) -> None:
    found = paste_mask(ALL, box, (9, 6))
    np.testing.assert_array_equal(found, paste_mask(ALL, same, (9, 6)))


@given(st.tuples(edges, edges, edges, edges), sizes)
def test_any_box_gives_a_mask_of_the_picture(box: Box, size: tuple[int, int]) -> None:
    found = paste_mask(ALL, box, size)
    assert (found.dtype, found.shape) == (bool, size[::-1])
    across = set(range(size[0])) & set(range(math.floor(box[0]), int(box[2])))
    down = set(range(size[1])) & set(range(math.floor(box[1]), int(box[3])))
    assert found.sum() == len(across) * len(down)


@settings(max_examples=25)
@given(sizes, st.data())
def test_a_mask_is_found_again_in_its_box(
    size: tuple[int, int], data: st.DataObject
) -> None:
    """Stretched to whole multiples of its cells, every cell keeps its middle's sign."""
    times = data.draw(st.integers(1, 3))
    left, top = (data.draw(st.integers(0, 20)) for _ in range(2))
    signs = np.array(
        data.draw(st.lists(st.sampled_from([-1, 1]), min_size=16, max_size=16))
    )
    mask = np.kron(signs.reshape(4, 4), np.ones((16, 16)))
    side = 64 * times
    box = (left, top, left + side, top + side)
    found = paste_mask(mask, box, (size[0] + left + side, size[1] + top + side))
    middles = found[top + 8 * times :: 16 * times, left + 8 * times :: 16 * times][
        :4, :4
    ]
    np.testing.assert_array_equal(middles, signs.reshape(4, 4) > 0)
