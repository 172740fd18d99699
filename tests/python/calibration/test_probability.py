"""Platt's line and reliability: by hand, and by a general optimiser."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from discffusion.calibration import platt, reliability
from discffusion.errors import ConfigError


def test_platts_line_through_two_scores_by_hand() -> None:
    """Scores of two values meet the mean targets of both: 3 matches of 4, and 1 of 4, drawn in to 5/6 and 1/6."""
    scores = np.repeat([1.0, -1.0], 4)
    labels = np.array([1, 1, 1, 0, 1, 0, 0, 0], bool)
    above = (3 * 5 / 6 + 1 / 6) / 4
    slope, offset = platt(scores, labels)
    assert (slope, offset) == pytest.approx((np.log(above / (1 - above)), 0.0), abs=1e-8)


def test_platts_line_is_the_likeliest() -> None:
    rng = np.random.default_rng(3)
    labels = rng.random(60) < 0.4
    scores = 5 + 0.01 * (labels + rng.normal(size=60))
    n, m = int(labels.sum()), int((~labels).sum())
    target = np.where(labels, (n + 1) / (n + 2), 1 / (m + 2))

    def unlikely(line: np.ndarray) -> float:
        logits = line[0] * (scores - 5) / 0.01 + line[1]
        return float((np.logaddexp(0, logits) - target * logits).sum())

    expected = optimize.minimize(unlikely, np.zeros(2), method="BFGS", options={"gtol": 1e-9}).x
    slope, offset = platt(scores, labels)
    assert slope == pytest.approx(expected[0] / 0.01, rel=1e-5)
    assert offset == pytest.approx(expected[1] - 5 * slope, rel=1e-5)


@pytest.mark.parametrize("sign", [-1.0, 0.0])
def test_a_slope_is_above_zero(sign: float) -> None:
    labels = np.arange(40) % 4 == 0
    slope, offset = platt(sign * labels.astype(float), labels)
    assert slope > 0
    p = 1 / (1 + np.exp(-offset))
    # the share of matches, of targets drawn in
    assert p == pytest.approx((10 * 11 / 12 + 30 / 32) / 40, rel=1e-4)


def test_calibration_error_and_brier_score_by_hand() -> None:
    found = reliability(np.array([0.05, 0.15, 0.15, 0.95, 1.0]), np.array([0, 0, 1, 1, 0], bool))
    np.testing.assert_array_equal(found.count, [1, 2, 0, 0, 0, 0, 0, 0, 0, 2])
    np.testing.assert_allclose(found.predicted[[0, 1, 9]], [0.05, 0.15, 0.975])
    np.testing.assert_allclose(found.observed[[0, 1, 9]], [0, 0.5, 0.5])
    assert np.isnan(found.predicted[2]) and np.isnan(found.observed[2])
    assert found.ece == pytest.approx((0.05 + 2 * 0.35 + 2 * 0.475) / 5)
    assert found.brier == pytest.approx((0.05**2 + 0.15**2 + 0.85**2 + 0.05**2 + 1) / 5)


def test_bins_of_equal_mass_hold_equally_many() -> None:
    p = np.random.default_rng(0).random(1000) ** 3
    found = reliability(p, p > 0.5, 8, equal_mass=True)
    assert set(found.count) == {125}
    assert (found.edges[0], found.edges[-1], len(found.edges)) == (0.0, 1.0, 9)


def test_equal_probabilities_stay_in_one_bin() -> None:
    for p in (0.0, 0.25, 1.0):
        found = reliability(np.full(20, p), np.arange(20) % 4 == 0, equal_mass=True)
        assert found.count.max() == 20
        assert found.ece == pytest.approx(abs(p - 0.25))


def test_probabilities_that_are_none_are_refused() -> None:
    for bad in ([], [1.1], [-0.1], [np.nan]):
        with pytest.raises(ConfigError, match="probabilities, from 0 to 1"):
            reliability(np.array(bad), np.zeros(len(bad), bool))
