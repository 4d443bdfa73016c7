"""The leaves against second formulas of another kind, and their properties."""

import math
import statistics
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tolerances import FLOAT32_TAPS, ORACLE, relative_error

from numpy_paligemma.model import parallel
from numpy_paligemma.model.layers import gelu, layer_norm, linear, rms_norm, softmax

rows = hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(-30, 30))


def test_linear_is_a_sum_over_the_matrix_as_stored(rng: np.random.Generator) -> None:
    x, w, bias = rng.normal(size=(2, 3, 5)), rng.normal(size=(4, 5)), rng.normal(size=4)
    expected = np.einsum("...i,oi->...o", x, w)
    assert relative_error(linear(x, w), expected) < ORACLE
    assert relative_error(linear(x, w, bias), expected + bias) < ORACLE


def test_layer_norm_agrees_with_the_statistics_module(
    rng: np.random.Generator,
) -> None:
    x, gain, bias = (
        rng.normal(3, 0.01, (2, 3, 7)),
        rng.normal(size=7),
        rng.normal(size=7),
    )
    expected = [
        [
            (v - statistics.fmean(row)) / math.sqrt(statistics.pvariance(row) + 1e-6)
            for v in row
        ]
        for row in x.reshape(6, 7).tolist()
    ]
    expected = np.reshape(expected, x.shape) * gain + bias
    assert relative_error(layer_norm(x, gain, bias, 1e-6), expected) < ORACLE


def test_rms_norm_agrees_with_fsum(rng: np.random.Generator) -> None:
    x, gain = rng.normal(0, 0.01, (2, 3, 7)), rng.normal(size=7)
    roots = [
        math.sqrt(math.fsum(v * v for v in row) / 7 + 1e-6)
        for row in x.reshape(6, 7).tolist()
    ]
    expected = x / np.reshape(roots, (2, 3, 1)) * (1 + gain)
    assert relative_error(rms_norm(x, gain, 1e-6), expected) < ORACLE


def test_gelu_is_its_formula_in_python_floats() -> None:
    x = np.linspace(-6, 6, 97)
    expected = [
        v / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))
        for v in x.tolist()
    ]
    assert relative_error(gelu(x), np.array(expected)) < ORACLE


def test_gelu_lies_within_its_fit_of_the_exact_form_and_is_not_it() -> None:
    x = np.linspace(-6, 6, 97)
    exact = [v / 2 * (1 + math.erf(v / math.sqrt(2))) for v in x.tolist()]
    assert 4e-4 < np.abs(gelu(x) - exact).max() < 5e-4


@given(rows)
def test_softmax_agrees_with_fsum(x: np.ndarray) -> None:
    terms = [math.exp(v - max(x)) for v in x.tolist()]
    expected = np.array(terms) / math.fsum(terms)
    assert relative_error(softmax(x), expected) < ORACLE


@given(rows, st.floats(-1e4, 1e4))
def test_softmax_sums_to_one_and_does_not_see_a_shift(
    x: np.ndarray, shift: float
) -> None:
    assert softmax(x).sum() == pytest.approx(1, abs=ORACLE)
    np.testing.assert_allclose(softmax(x + shift), softmax(x), atol=1e-10)


@given(rows)
def test_softmax_turns_minus_infinity_into_exactly_nothing(x: np.ndarray) -> None:
    probs = softmax(np.append(x, -np.inf))
    assert probs[-1] == 0
    assert relative_error(probs[:-1], softmax(x)) < ORACLE


def test_softmax_survives_numbers_whose_exponential_does_not() -> None:
    x = np.array([[-1e30, 0, 1e30], [800, 800, -800]])
    np.testing.assert_array_equal(softmax(x), [[0, 0, 1], [0.5, 0.5, 0]])


@given(st.integers(0, 2**32 - 1), st.floats(1, 1e6))
def test_norms_do_not_see_the_scale_of_what_is_far_above_eps(
    seed: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    x, gain, bias = rng.normal(size=(3, 8))
    up_to = 1e-6 / min(np.var(x), np.mean(x * x))  # eps against the smaller of the two
    rms, centred = (
        lambda x: rms_norm(x, gain, 1e-6),
        lambda x: layer_norm(x, gain, bias, 1e-6) - bias,
    )
    for norm in (rms, centred):
        assert relative_error(norm(scale * x), norm(x)) < up_to


def test_norms_leave_a_constant_vector_finite() -> None:
    zero, gain, bias = np.zeros((3, 5))
    np.testing.assert_array_equal(rms_norm(zero, gain, 1e-6), zero)
    np.testing.assert_array_equal(layer_norm(zero + 4, gain, bias + 2, 1e-6), zero + 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_leaves_keep_the_dtype(dtype: type, rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 5)).astype(dtype)
    v = rng.normal(size=5).astype(dtype)
    out = [gelu(x), softmax(x), rms_norm(x, v, 1e-6), layer_norm(x, v, v, 1e-6)]
    assert {y.dtype for y in [*out, linear(x, x, x[:, 0])]} == {np.dtype(dtype)}


# --- worked out in place, in blocks of rows, by several threads -----------------------


def plain_gelu(x: np.ndarray) -> np.ndarray:
    return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def plain_softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


LEAVES = pytest.mark.parametrize(
    ("leaf", "plain"),
    [(gelu, plain_gelu), (softmax, plain_softmax)],
    ids=["gelu", "softmax"],
)
VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "whole": lambda x: x,
    "one row": lambda x: x[0, 0],
    "a batch turned": lambda x: x.swapaxes(0, 1),
    "columns": lambda x: x.swapaxes(-1, -2),
    "every other": lambda x: x[:, :, ::2],
    "backwards": lambda x: x[..., ::-1],
    "spread out": lambda x: np.broadcast_to(x[:, :1], x.shape),
    "no rows": lambda x: x[:0],
}


@LEAVES
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("block", [1, 20, parallel.BLOCK])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_leaf_in_blocks_is_its_formula_and_leaves_its_input_alone(
    leaf: Callable[[np.ndarray], np.ndarray],
    plain: Callable[[np.ndarray], np.ndarray],
    view: str,
    block: int,
    threads: int,
    dtype: type,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    take_threads: Callable[[int], None],
) -> None:
    monkeypatch.setattr(parallel, "BLOCK", block)
    take_threads(threads)
    x = VIEWS[view](rng.normal(0, 3, (3, 5, 9)).astype(dtype))
    before = x.copy()
    found = leaf(x)
    assert found.dtype == dtype
    tolerance = ORACLE if dtype is np.float64 else FLOAT32_TAPS
    assert relative_error(found, plain(before.astype(np.float64))) < tolerance
    np.testing.assert_array_equal(x, before)
    assert not np.shares_memory(found, x)


def test_gelu_takes_a_single_number() -> None:
    x = np.array(-0.7)
    assert gelu(x).shape == ()
    assert relative_error(gelu(x), plain_gelu(x)) < ORACLE


def test_gelu_of_the_largest_numbers_is_finite_or_nought() -> None:
    """Where the cube overflows, as the tanh of it does not."""
    x = np.array([-1e20, -1e13, 1e13, 1e20], np.float32)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(gelu(x), np.maximum(x, 0))
