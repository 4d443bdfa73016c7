"""From logits to tokens: the nucleus, the odds, the seeds."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tolerances import ORACLE

from numpy_paligemma.model.layers import softmax
from numpy_paligemma.model.sampling import greedy_token, nucleus, sample_token

logits = hnp.arrays(np.float64, st.integers(1, 40), elements=st.floats(-20, 20))
shares = st.floats(0.01, 1.0)


@given(logits, shares)
def test_the_nucleus_is_the_smallest_set_that_reaches_top_p(
    x: np.ndarray, top_p: float
) -> None:
    probs = softmax(x)
    stays = nucleus(probs, top_p) > 0
    assert probs[stays].sum() >= top_p - ORACLE
    assert probs[stays].sum() - probs[stays].min() < top_p + ORACLE


@given(logits, shares)
def test_the_nucleus_keeps_the_likeliest_at_their_old_odds(
    x: np.ndarray, top_p: float
) -> None:
    probs = softmax(x)
    kept = nucleus(probs, top_p)
    stays = kept > 0
    assert stays[np.argmax(probs)]
    assert math.fsum(kept) == pytest.approx(1, abs=ORACLE)
    if not stays.all():
        assert probs[stays].min() >= probs[~stays].max()
    np.testing.assert_allclose(kept[stays] / kept.max(), probs[stays] / probs.max())


def test_the_token_that_crosses_the_line_stays_and_the_one_behind_it_does_not() -> None:
    probs = np.array([0.125, 0.5, 0.25, 0.125])  # exact in binary
    np.testing.assert_array_equal(nucleus(probs, 0.5), [0, 1, 0, 0])
    np.testing.assert_allclose(nucleus(probs, 0.51), [0, 2 / 3, 1 / 3, 0])
    np.testing.assert_allclose(nucleus(probs, 0.75), [0, 2 / 3, 1 / 3, 0])
    np.testing.assert_array_equal(nucleus(probs, 1), probs)


def test_empirical_frequencies_are_those_of_the_nucleus() -> None:
    x, draws = np.array([1.0, 0.0, 2.0, -1.0, 0.5]), 20_000
    rng = np.random.default_rng(7)
    tokens = [sample_token(x, rng, temperature=0.7, top_p=0.9) for _ in range(draws)]
    found = np.bincount(tokens, minlength=5) / draws
    expected = nucleus(softmax(x / 0.7), 0.9)
    assert set(np.flatnonzero(found)) == set(np.flatnonzero(expected)) == {0, 2, 4}
    five_sigma = 5 * np.sqrt(expected * (1 - expected) / draws)
    assert (np.abs(found - expected) <= five_sigma).all()


@given(logits, st.integers(0, 2**32 - 1))
def test_temperature_nought_is_greedy_and_draws_nothing(
    x: np.ndarray, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    token = sample_token(x, rng, temperature=0, top_p=0.9)
    assert token == greedy_token(x) == np.argmax(x.astype(np.float32))
    assert rng.random() == np.random.default_rng(seed).random()


def test_greedy_takes_the_lowest_of_equals_and_compares_in_float32() -> None:
    assert greedy_token(np.array([1.0, 3.0, 3.0, 2.0])) == 1
    assert greedy_token(np.array([1.0, 3.0, 3.0 + 1e-12])) == 1


@given(logits, st.sampled_from([5e-324, 1e-308, 1e-30, 1e-6]), shares)
def test_a_tiny_temperature_neither_warns_nor_leaves_the_likeliest(
    x: np.ndarray, temperature: float, top_p: float
) -> None:
    apart = np.arange(len(x)) * 1e-3 + np.round(x, 1)  # no two are equal
    rng = np.random.default_rng(0)
    token = sample_token(apart, rng, temperature=temperature, top_p=top_p)
    assert apart[token] == apart.max()


def test_a_tiny_temperature_draws_among_equals() -> None:
    x, rng = np.array([3.0, 1.0, 3.0]), np.random.default_rng(0)
    tokens = {sample_token(x, rng, temperature=5e-324, top_p=1) for _ in range(50)}
    assert tokens == {0, 2}


def test_logits_near_the_end_of_float32_are_no_trouble() -> None:
    x, rng = np.array([-3e38, 3e38, 2.9e38], np.float32), np.random.default_rng(0)
    assert sample_token(x, rng, temperature=1e-3, top_p=1) == 1


@given(logits, st.integers(0, 2**32 - 1), st.floats(0.1, 3), shares)
def test_the_same_seed_gives_the_same_token_in_float32_and_float64(
    x: np.ndarray, seed: int, temperature: float, top_p: float
) -> None:
    narrow = x.astype(np.float32)
    tokens = {
        sample_token(
            y, np.random.default_rng(seed), temperature=temperature, top_p=top_p
        )
        for y in (narrow, narrow, narrow.astype(np.float64))
    }
    assert len(tokens) == 1


def test_one_number_is_drawn_a_token() -> None:
    rng, twin = np.random.default_rng(3), np.random.default_rng(3)
    sample_token(np.zeros(5), rng, temperature=1, top_p=0.3)
    twin.random()
    assert rng.random() == twin.random()
