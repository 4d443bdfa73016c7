"""Position as rotation: each head is a set of points, turned by an angle per token.

A head of size H is read as H/2 points in the plane. At position p, point j is turned by
the angle p · base^(-2j/H): the first points turn fast, the last ones hardly at all. A
dot product of two heads then depends on their contents and on the distance of their
positions, never on the positions themselves.

Point j has its two coordinates at places j and j + H/2 (halves). The paper puts them at
2j and 2j + 1 (pairs): the same thing with the columns of the projections in another
order, and the order of the published weights is that of the halves.

References
----------
Su et al. (2021), https://arxiv.org/abs/2104.09864, section 3.4.2 and equation 34;
halves: big_vision/models/ppp/gemma.py, function _apply_rope.
"""

from typing import NamedTuple

import numpy as np


class RopeTable(NamedTuple):
    """Cosine and sine of every token's angles, each (B, 1, T, H/2)."""

    cos: np.ndarray
    sin: np.ndarray


def rope_table(
    positions: np.ndarray, head_dim: int, base: float, like: np.ndarray
) -> RopeTable:
    """Work out the angles of every position.

        angle(p, j) = p · base^(-2j / head_dim),  j = 0 … head_dim/2 - 1

    They are worked out in float64 and cast once. In float32 from the start, as
    transformers has it, an angle is off by up to 2e-5 at position 300 and 3e-4 at
    4,400; with frequencies rounded to bfloat16 by up to 0.4 at 300.

    Parameters
    ----------
    positions : integer array, (B, T)
        Only differences matter; transformers counts from one.
    head_dim : int
    base : float
    like : float array
        Gives the table its dtype and its place (host or device).

    Returns
    -------
    RopeTable, (B, 1, T, H/2)
    """
    evens = np.arange(0, head_dim, 2, like=positions)  # (H/2,)
    frequencies = base ** (-evens / head_dim)  # (H/2,)
    angles = positions[:, None, :, None] * frequencies  # (B, 1, T, H/2)
    table = (np.cos(angles), np.sin(angles))
    return RopeTable(*(np.asarray(t, dtype=like.dtype, like=like) for t in table))


def apply_rope(x: np.ndarray, rope: RopeTable) -> np.ndarray:
    """Turn every point of every head: (B, N, T, H) -> same.

    (a, b) -> (a · cos - b · sin, b · cos + a · sin)
    """
    a, b = np.split(x, 2, axis=-1)  # the points' two coordinates, each (B, N, T, H/2)
    cos, sin = rope
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
