"""One scale for all items: the area under the ROC curve, the logistic curve and its errors, against references."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import mannwhitneyu
from tests.python.evaluation.scored import record
from torchmetrics.functional.classification import binary_calibration_error

from discffusion import ConfigError
from discffusion.evaluation.metrics import METRICS
from discffusion.evaluation.metrics.calibration import held_out
from discffusion.evaluation.metrics.calibration_error import BINS
from discffusion.evaluation.metrics.logistic import fit
from discffusion.evaluation.record import Record


def pairs(scores: np.ndarray, match: np.ndarray, per_image: int = 1) -> list[Record]:
    """A pair an item; as many in turn share an image."""
    return [
        record(f"{index:05}", [[score]], [[right]], images=(f"{index // per_image}.jpg",))
        for index, (score, right) in enumerate(zip(scores, match, strict=True))
    ]


def drawn(seed: int, n: int, gap: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    match = np.arange(n) % 3 == 0
    return rng.normal(size=n) + gap * match, match


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=30))
def test_auroc_is_mann_whitney_without_the_half_for_ties(given_pairs: list[tuple[int, bool]]) -> None:
    scores, match = (np.array(column) for column in zip(*given_pairs, strict=True))
    if match.all() or not match.any():
        with pytest.raises(ConfigError, match="pairs that match and pairs that do not"):
            METRICS["calibration"](pairs(scores, match))
        return
    ties = int((scores[match][:, None] == scores[~match][None, :]).sum())
    u = mannwhitneyu(scores[match], scores[~match]).statistic
    found = METRICS["calibration"](pairs(scores, match))["auroc"]
    assert found.value == pytest.approx((u - ties / 2) / (match.sum() * (~match).sum()))
    assert found.ties == ties
    assert found.low <= found.value <= found.high


def test_the_interval_of_auroc_is_that_of_resampling() -> None:
    scores, match = drawn(1, 240, 1.0)
    per_image = 4
    found = METRICS["calibration"](pairs(scores, match, per_image))["auroc"]
    rng = np.random.default_rng(0)
    images = np.arange(240).reshape(-1, per_image)
    values = []
    for _ in range(2000):
        of = images[rng.integers(len(images), size=len(images))].reshape(-1)
        right, wrong = scores[of][match[of]], scores[of][~match[of]]
        values.append((right[:, None] > wrong[None, :]).mean())
    low, high = np.quantile(values, [0.025, 0.975])
    width = high - low
    # in log odds the interval lies a little lower than plain quantiles: compare its width, and its ends roughly
    assert found.high - found.low == pytest.approx(width, rel=0.08)
    assert abs(found.low - low) < 0.15 * width and abs(found.high - high) < 0.15 * width
    assert (found.method, found.groups, found.n) == ("delong", 60, 80)


@pytest.mark.parametrize(("n", "gap"), [(30, 0.0), (200, 1.5), (60, 100.0)])
def test_the_curve_has_the_highest_likelihood(n: int, gap: float) -> None:
    scores, match = drawn(2, n, gap)
    scores = 40 + 5 * scores
    matching, others = match.sum(), (~match).sum()
    target = np.where(match, (matching + 1) / (matching + 2), 1 / (others + 2))
    unit = (scores - 40) / 5

    def loss(weights: np.ndarray) -> float:
        logits = weights[0] * unit + weights[1]
        return float((np.logaddexp(0, logits) - target * logits).sum())

    best = minimize(loss, np.zeros(2), method="BFGS", options={"gtol": 1e-9})
    curve = fit(scores, match)
    ours = np.array([curve.slope * 5, curve.offset + curve.slope * 40])
    assert loss(ours) <= best.fun + 1e-9
    np.testing.assert_allclose(ours, best.x, rtol=1e-4, atol=1e-4)


def test_a_curve_through_one_score_is_the_share_of_matches() -> None:
    curve = fit(np.full(6, 1e6), np.array([1, 0, 0, 1, 0, 0], bool))
    # the targets are 3/4 for two matches and 1/6 for four others
    assert curve.slope == 0
    assert curve(np.array([1e6]))[0] == pytest.approx((2 * 3 / 4 + 4 / 6) / 6)


def test_each_image_group_is_judged_by_others() -> None:
    scores, match = drawn(3, 60, 1.0)
    group = np.arange(60) // 6
    before = held_out(scores, match, group)
    for one in range(10):
        # whatever the matches of a group are, its own probabilities stay
        after = held_out(scores, match ^ (group == one), group)
        np.testing.assert_array_equal(before[group == one], after[group == one])
        assert (before[group != one] != after[group != one]).any()


def test_errors_agree_with_torchmetrics_and_the_formula() -> None:
    scores, match = drawn(4, 300, 1.2)
    found = METRICS["calibration"](pairs(scores, match, 3))
    p = held_out(scores, match, np.arange(300) // 3)
    expected = binary_calibration_error(
        torch.tensor(p), torch.tensor(match.astype(int)), n_bins=BINS, norm="l1"
    )
    assert found["ece"].value == pytest.approx(expected.item(), abs=1e-6)
    assert found["brier"].value == pytest.approx(np.mean((p - match) ** 2))
    assert found["ece"].low <= found["ece"].value <= found["ece"].high
    assert found["brier"].n == 300 and found["brier"].groups == 100


def test_the_scale_is_said() -> None:
    scores, match = drawn(5, 3000, 0.0)
    rng = np.random.default_rng(0)
    match = rng.random(3000) < 1 / (1 + np.exp(-(2 * scores - 1)))
    note = METRICS["calibration"].measure(pairs(scores, match)).notes[0]
    slope, offset = map(float, re.findall(r"exp\(-\((\S+) · score ([^)]+)\)", note)[0])
    assert slope == pytest.approx(2, abs=0.25) and offset == pytest.approx(-1, abs=0.2)


def test_a_constant_score_is_as_good_as_the_share_of_matches_alone() -> None:
    match = np.arange(90) % 3 == 0
    found = METRICS["calibration"].measure(pairs(np.full(90, 7.0), match))
    assert found.values["auroc"].value == 0
    assert found.values["brier"].value >= 2 / 9
    assert "score +" in found.notes[0] or "score -" in found.notes[0]
    assert found.notes[1].endswith("said of every pair has a brier score of 0.2222")


def test_a_probability_that_is_right_on_average_has_an_error_that_may_be_none() -> None:
    scores, match = drawn(6, 400, 0.0)
    found = METRICS["calibration"](pairs(scores, match))["ece"]
    assert found.value > 0 and found.low == 0


def test_what_cannot_be_calibrated_is_refused() -> None:
    match = np.array([True, False])
    with pytest.raises(ConfigError, match="a score is infinite"):
        METRICS["calibration"](pairs(np.array([1, -np.inf]), match))
    with pytest.raises(ConfigError, match="all items share one image group"):
        METRICS["calibration"](pairs(np.array([1, 0]), match, per_image=2))
