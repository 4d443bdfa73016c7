"""Rotation against complex multiplication, and the one property it is there for."""

import cmath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tolerances import ORACLE, relative_error

from numpy_paligemma.model.rope import apply_rope, rope_table

BASE, HEAD = 10000.0, 6


def turned(
    x: np.ndarray, positions: np.ndarray, dtype: type = np.float64
) -> np.ndarray:
    """Rotate x (B, N, T, H)."""
    like = np.empty(0, dtype)
    return apply_rope(x, rope_table(positions, x.shape[-1], BASE, like))


def test_rope_is_complex_multiplication(rng: np.random.Generator) -> None:
    x, positions = rng.normal(size=(2, 3, 4, HEAD)), rng.integers(0, 900, (2, 4))
    points = x[..., :3] + 1j * x[..., 3:]  # (B, N, T, H/2)
    for b, t, j in np.ndindex(2, 4, 3):
        angle = int(positions[b, t]) * BASE ** (-2 * j / HEAD)
        points[b, :, t, j] *= cmath.exp(1j * angle)
    expected = np.concatenate([points.real, points.imag], axis=-1)
    assert relative_error(turned(x, positions), expected) < ORACLE


def test_the_table_agrees_with_python_floats() -> None:
    cos, sin = rope_table(np.array([[1, 4400]]), 8, BASE, np.empty(0))
    expected = [
        [cmath.exp(1j * p * BASE ** (-j / 4)) for j in range(4)] for p in (1, 4400)
    ]
    assert cos.shape == sin.shape == (1, 1, 2, 4)
    np.testing.assert_allclose(cos[0, 0] + 1j * sin[0, 0], expected, atol=ORACLE)


@given(st.integers(0, 4000), st.integers(0, 4000), st.integers(0, 4000))
def test_a_dot_product_depends_on_the_distance_only(p: int, q: int, shift: int) -> None:
    u, v = np.random.default_rng(1).normal(size=(2, 1, 1, 1, 8))

    def dot(p: int, q: int) -> float:
        return float(np.vdot(turned(u, np.array([[p]])), turned(v, np.array([[q]]))))

    # angles up to 8,000 keep 12 of 16 digits behind the point
    assert dot(p + shift, q + shift) == pytest.approx(dot(p, q), abs=1e-10)


def test_position_nought_turns_nothing_and_no_position_stretches(
    rng: np.random.Generator,
) -> None:
    x = rng.normal(size=(1, 2, 1, HEAD))
    np.testing.assert_array_equal(turned(x, np.array([[0]])), x)
    lengths = [np.linalg.norm(turned(x, np.array([[p]]))) for p in (1, 77, 8191)]
    np.testing.assert_allclose(lengths, np.linalg.norm(x), rtol=ORACLE)


def test_the_table_is_worked_out_in_float64_and_cast_once() -> None:
    positions = np.array([[1, 300, 4400]])
    wide = rope_table(positions, 256, BASE, np.empty(0))
    narrow = rope_table(positions, 256, BASE, np.empty(0, np.float32))
    for a, b in zip(wide, narrow, strict=True):
        assert b.dtype == np.float32
        np.testing.assert_array_equal(b, a.astype(np.float32))
