"""Intervals: against scipy, and by how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from tests.python.evaluation.scored import record

from discffusion.evaluation.estimate import Estimate
from discffusion.evaluation.intervals import (
    bootstrap,
    exact,
    few_groups,
    logit_interval,
    student,
    wilson,
)
from discffusion.evaluation.metrics import METRICS
from discffusion.evaluation.record import Record
from discffusion.evaluation.trials import Trials, estimates, weighted


@given(st.integers(1, 6000), st.data())
def test_wilson_is_scipys(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    expected = stats.binomtest(k, n).proportion_ci(0.95, "wilson")
    assert wilson(k / n, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_keeps_the_exact_end() -> None:
    for n in range(1, 200):
        assert wilson(0.0, n)[0] == 0 and wilson(1.0, n)[1] == 1


def mean(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = sums[..., 0] / sums[..., 1]
    return result


@pytest.mark.parametrize("n", [25, 200])
def test_the_bootstrap_of_a_skewed_mean_is_scipys(n: int) -> None:
    values = np.random.default_rng(n).exponential(size=n) ** 2
    found = bootstrap(np.stack([values, np.ones(n)], axis=1), mean, resamples=40_000)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=40_000, batch=2000, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found is not None
    # 40,000 resamples know an end to about 1 % of the width
    width = expected.high - expected.low
    assert abs(found[0] - expected.low) < 0.03 * width and abs(found[1] - expected.high) < 0.03 * width
    # plain quantiles, without the correction, lie elsewhere
    plain = np.quantile(
        values[np.random.default_rng(2).integers(n, size=(4000, n))].mean(axis=1), [0.025, 0.975]
    )
    assert found[1] - plain[1] > 0.03 * width


def test_the_bootstrap_draws_groups_not_rows() -> None:
    """Each row repeated twenty times in its group changes nothing."""
    values = np.random.default_rng(1).random(40)
    once = bootstrap(np.stack([values, np.ones(40)], axis=1), mean)
    often = bootstrap(np.stack([20 * values, np.full(40, 20.0)], axis=1), mean)
    assert once == pytest.approx(often)


def test_the_bootstrap_says_nothing_where_all_groups_agree() -> None:
    assert bootstrap(np.array([[1.0, 2.0], [2.0, 4.0], [0.5, 1.0]]), mean) is None
    assert bootstrap(np.array([[1.0, 3.0]]), mean) is None


def test_the_bootstrap_is_the_same_every_time() -> None:
    sums = np.random.default_rng(0).random((30, 2))
    assert bootstrap(sums, mean) == bootstrap(sums, mean)


@given(st.floats(0.001, 0.999), st.floats(1e-6, 10))
def test_a_logit_interval_holds_its_value_and_stays_a_share(value: float, error: float) -> None:
    low, high = logit_interval(value, error) or (1.0, 0.0)
    assert 0 <= low < value < high <= 1


def test_a_logit_interval_is_symmetric_in_log_odds() -> None:
    assert logit_interval(0.5, 0.05) == pytest.approx(
        (1 / (1 + np.exp(0.392)), 1 / (1 + np.exp(-0.392))), abs=1e-4
    )
    assert logit_interval(0.0, 0.1) is logit_interval(1.0, 0.1) is logit_interval(0.5, 0.0) is None


def test_a_leaf_without_trials_is_left_out_of_a_mean() -> None:
    statistic = weighted(np.array([0.5, 0.25, 0.25]))
    sums = np.array([[1.0, 3.0, 0.0, 2.0, 4.0, 0.0], [1.0, 3.0, 1.0, 2.0, 4.0, 1.0]])
    np.testing.assert_allclose(statistic(sums), [(0.25 + 0.1875) / 0.75, 0.25 + 0.1875 + 0.25])


# --- which interval, and whether it holds the truth --------------------------------------------------------------


def answers(won: NDArray[np.bool_], per_image: int) -> list[Record]:
    """An item a comparison; as many in turn share the image."""
    return [
        record(f"{index:05}", [[float(right), 0.5]], [[1, 0]], images=(f"{index // per_image}.jpg",))
        for index, right in enumerate(won)
    ]


def accuracy(won: NDArray[np.bool_], per_image: int = 1) -> Estimate:
    return METRICS["accuracy"](answers(won, per_image))[""]


def test_the_interval_fits_the_trials() -> None:
    won = np.arange(80) % 4 > 0
    apart, together = accuracy(won), accuracy(won, 2)
    assert (apart.method, apart.groups) == ("wilson", 80)
    assert (apart.low, apart.high) == pytest.approx(wilson(0.75, 80))
    assert (together.method, together.groups, together.n) == ("bootstrap", 40, 80)
    # shares of several comparisons are no 0/1 trials, though no image is shared
    halves = METRICS["accuracy"]([record(f"{i}", [[1, 0], [i, 2]], np.eye(2)) for i in range(39)])[""]
    assert (halves.method, halves.groups) == ("bootstrap", 39)


def test_few_groups_have_intervals_of_small_samples() -> None:
    won = np.arange(40) % 4 > 0
    apart, together = accuracy(won[:20]), accuracy(won, 2)
    assert (apart.method, apart.groups) == ("exact", 20)
    expected = stats.binomtest(15, 20).proportion_ci(0.95, "exact")
    assert (apart.low, apart.high) == pytest.approx((expected.low, expected.high))
    assert (together.method, together.groups, together.n) == ("t", 20, 40)
    # ten groups with 1 of 2 and ten with 2 of 2, in log odds; the jackknife's error of a mean is the usual one
    values = np.tile([0.5, 1.0], 10)
    half = stats.t.ppf(0.975, 19) * values.std(ddof=1) / np.sqrt(20) / (0.75 * 0.25)
    ends = 1 / (1 + np.exp(-(np.log(3) + half * np.array([-1, 1]))))
    assert (together.low, together.high) == pytest.approx(tuple(ends))
    assert accuracy(won[:29]).method == "exact" and accuracy(np.tile(won, 2)[:30]).method == "wilson"


def test_students_quantile_is_scipys() -> None:
    for df in [*range(1, 60), 100, 1000, 9999]:
        assert student(df) == pytest.approx(stats.t.ppf(0.975, df), rel=1e-9)
    assert student(1 << 30) == pytest.approx(stats.norm.ppf(0.975))


@given(st.integers(1, 40), st.data())
def test_the_exact_interval_is_scipys(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    expected = stats.binomtest(k, n).proportion_ci(0.95, "exact")
    assert exact(k / n, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_a_share_between_two_counts_takes_the_wider_ends() -> None:
    low, high = exact(0.5, 5)
    assert low == pytest.approx(exact(2 / 5, 5)[0]) and high == pytest.approx(exact(3 / 5, 5)[1])


def test_a_mean_without_ends_has_students_interval() -> None:
    values = np.array([3.0, -1.0, 0.5, 7.0, 2.0, 2.5])
    sums = np.stack([values, np.ones(6)], axis=1)
    expected = stats.t.interval(0.95, 5, values.mean(), values.std(ddof=1) / np.sqrt(6))
    assert few_groups(sums, mean, None) == pytest.approx(expected)
    assert few_groups(sums[:1], mean, None) is few_groups(sums[[0, 0]], mean, None) is None


@pytest.mark.parametrize("right", [True, False])
def test_at_the_boundary_the_interval_is_that_of_the_groups(right: bool) -> None:
    found = accuracy(np.full(120, right), 3)
    assert (found.low, found.high) == pytest.approx(wilson(float(right), 40))
    assert (found.method, found.n, found.groups) == ("wilson", 120, 40)
    few = accuracy(np.full(60, right), 3)
    assert (few.low, few.high) == pytest.approx(exact(float(right), 20))
    assert (few.method, few.n, few.groups) == ("exact", 60, 20)


def test_where_all_groups_have_the_same_share_the_interval_is_that_of_the_groups() -> None:
    for groups, interval in ((40, wilson), (20, exact)):
        found = accuracy(np.arange(3 * groups) % 3 > 0, 3)
        low, high = interval(2 / 3, groups)
        assert (found.low, found.value, found.high) == pytest.approx((low, 2 / 3, high))


def test_intervals_of_groups_of_rows_hold_the_truth() -> None:
    """Rows of an image are alike; an interval that takes them for independent is too narrow."""
    rng = np.random.default_rng(11)
    images, rows, truth, runs = 60, 5, 0.7, 300
    cluster = np.repeat(np.arange(images), rows)
    held = naive = 0
    for _ in range(runs):
        # each image has its own share, 0.7 on average
        won = rng.random((images, rows)) < rng.beta(1.4, 0.6, size=(images, 1))
        trials = Trials.plain(won.ravel().astype(float), np.arange(won.size), np.zeros(won.size, np.intp))
        found = estimates(trials, cluster)[""]
        held += found.low <= truth <= found.high
        low, high = wilson(float(won.mean()), won.size)
        naive += low <= truth <= high
    # 95 % of 300 runs, within three standard errors (1.26 % each); the bootstrap of 60 groups is a little short
    assert 0.91 <= held / runs <= 0.988
    assert naive / runs < 0.85


def test_intervals_of_independent_items_hold_the_truth() -> None:
    rng = np.random.default_rng(12)
    held = sum(
        found.low <= 0.9 <= found.high
        for found in (
            estimates(
                Trials.plain((rng.random(80) < 0.9).astype(float), np.arange(80), np.zeros(80, np.intp)),
                np.arange(80),
            )[""]
            for _ in range(1000)
        )
    )
    # Wilson's interval of 80 trials at 0.9 holds the truth in 95.0 % of all samples
    inside = [k for k in range(81) if wilson(k / 80, 80)[0] <= 0.9 <= wilson(k / 80, 80)[1]]
    exact = stats.binom.pmf(inside, 80, 0.9).sum()
    assert abs(held / 1000 - exact) < 4 * np.sqrt(exact * (1 - exact) / 1000)
