"""Figures 6 and 7 decide by intervals, as all claims do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from discffusion.reproduce.claims import answer, side
from discffusion.reproduce.experiments.figure6 import fall
from discffusion.reproduce.experiments.figure7 import near_zero
from discffusion.reproduce.result import FAILS, HOLDS, UNDECIDED


def told(low: float, high: float, mark: float = 0.0) -> str:
    return answer([side(low, high, mark)])


def test_a_loss_that_falls_little_beside_its_scatter_is_undecided() -> None:
    rng = np.random.default_rng(0)
    scatter = rng.normal(0, 0.05, 100)
    slope = np.linspace(0, 1, 100)
    assert told(*fall([0.2 - 0.15 * slope + scatter])[2:]) == HOLDS
    assert told(*fall([0.2 + 0.15 * slope + scatter])[2:]) == FAILS
    first, last, low, high = fall([0.2 - 0.005 * slope + scatter])
    assert told(low, high) == UNDECIDED and low < first - last < high


def test_its_interval_is_welchs() -> None:
    rng = np.random.default_rng(1)
    losses = rng.exponential(1.0, 60)
    first, last, low, high = fall([losses])
    found = stats.ttest_ind(losses[:12], losses[-12:], equal_var=False)
    expected = found.confidence_interval(0.95)
    # the degrees of freedom are rounded down here
    assert low == pytest.approx(expected.low, rel=5e-3) and high == pytest.approx(expected.high, rel=5e-3)
    assert low <= expected.low and expected.high <= high
    assert (first, last) == pytest.approx((losses[:12].mean(), losses[-12:].mean()))


def test_seeds_narrow_it_and_a_few_steps_decide_nothing() -> None:
    rng = np.random.default_rng(2)
    one = rng.normal(0, 1, 50)
    alone, four = fall([one]), fall([one, *(rng.normal(0, 1, 50) for _ in range(3))])
    assert four[3] - four[2] < 0.7 * (alone[3] - alone[2])
    assert fall([np.array([3.0, 2.0, 1.0])]) == (3.0, 1.0, -math.inf, math.inf)
    assert told(*fall([np.array([3.0, 2.0, 1.0])])[2:]) == UNDECIDED


def test_the_share_of_numbers_near_zero_is_of_matrices() -> None:
    """Each matrix has its own share, and how they differ says how well the mean of all is known."""
    shares = [0.2, 0.9, 0.5, 0.8, 0.6, 0.4]
    of = {
        f"m{k}": np.repeat([0.01, 0.5], [round(100 * s), 100 - round(100 * s)]) for k, s in enumerate(shares)
    }
    of["m0"][-1] = 1.0
    value, low, high = near_zero([of])
    assert value == pytest.approx(np.mean(shares))
    half = stats.t.ppf(0.975, 5) * np.std(shares, ddof=1) / np.sqrt(6) / (value * (1 - value))
    ends = 1 / (1 + np.exp(-(np.log(value / (1 - value)) + half * np.array([-1, 1]))))
    assert (low, high) == pytest.approx(tuple(ends))
    # over a half in the mean, and nothing is decided
    assert value > 0.5 and told(low, high, 0.5) == UNDECIDED
    # a second training of the same matrices does not make them more
    assert near_zero([of, of]) == pytest.approx((value, low, high))
