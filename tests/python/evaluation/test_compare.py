"""Two runs on the same items: differences, intervals and p-values against scipy and by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from tests.python.evaluation.scored import EXAMPLES, record

from discffusion import ConfigError
from discffusion.evaluation.compare import PERMUTATIONS, Comparison, compare, mcnemar, sign_flip
from discffusion.evaluation.intervals import wilson
from discffusion.evaluation.metrics import METRICS
from discffusion.evaluation.record import Record
from discffusion.evaluation.report import Report


def run(won: object, per_image: int = 1, **fields: object) -> list[Record]:
    """An item a comparison, won or lost."""
    return [
        record(
            f"{index:05}", [[float(right), 0.5]], [[1, 0]], images=(f"{index // per_image}.jpg",), **fields
        )
        for index, right in enumerate(np.asarray(won))
    ]


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_scipys_binomial_test(won: int, lost: int) -> None:
    expected = stats.binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert mcnemar(won, lost) == pytest.approx(expected)


def test_mcnemar_of_many_trials() -> None:
    assert mcnemar(2600, 2800) == pytest.approx(stats.binomtest(2600, 5400).pvalue, rel=1e-9)
    assert mcnemar(0, 5400) == 0.0  # less than a float holds


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=12))
def test_sign_flips_of_few_groups_are_scipys_exact_test(parts: list[int]) -> None:
    values = np.array(parts, float) / 7  # sums that are equal but for rounding
    # The p-value is that of the whole numbers, whose sums scipy takes without rounding.
    held = [part for part in parts if part != 0] or [0]
    if len(held) == 1:  # scipy wants two
        assert sign_flip(values) == 1
        return
    expected = stats.permutation_test(
        (np.array(held, float),),
        np.sum,
        permutation_type="samples",
        n_resamples=np.inf,
        alternative="two-sided",
    )
    # scipy doubles the smaller tail, which is the same as both tails of a symmetric distribution
    assert sign_flip(values) == pytest.approx(min(1, expected.pvalue))


def test_sign_flips_of_many_groups_are_drawn() -> None:
    values = np.random.default_rng(3).normal(0.1, 1, 200)
    expected = stats.permutation_test(
        (values,),
        np.sum,
        permutation_type="samples",
        n_resamples=20_000,
        batch=1000,
        rng=np.random.default_rng(1),
    ).pvalue
    found = sign_flip(values)
    assert found == pytest.approx(expected, abs=4 * np.sqrt(expected / PERMUTATIONS + expected / 20_000))
    assert sign_flip(values) == found
    assert sign_flip(np.ones(40)) == 1 / (PERMUTATIONS + 1)


def test_items_that_share_no_image_are_compared_by_mcnemar() -> None:
    a = np.array([1] * 30 + [0] * 10)
    b = np.array([1] * 22 + [0] * 8 + [1] * 2 + [0] * 8)
    found = compare(run(a), run(b))
    assert found.difference == pytest.approx((30 - 24) / 40)
    assert found.p_value == pytest.approx(stats.binomtest(8, 10).pvalue)
    assert (found.n, found.method, found.groups, found.metric) == (40, "mcnemar", 40, "accuracy")
    # the standard error of a mean of 8 times +1, 2 times -1 and 30 times 0
    half = 1.96 * np.std([1] * 8 + [-1] * 2 + [0] * 30) / np.sqrt(40)
    assert (found.low, found.high) == pytest.approx((0.15 - half, 0.15 + half), abs=0.03)
    back = compare(run(b), run(a))
    assert (back.difference, back.p_value) == (-found.difference, found.p_value)


def test_items_that_share_images_are_compared_by_image() -> None:
    rng = np.random.default_rng(4)
    of_image = np.repeat(rng.random(50) < 0.65, 4)
    a = run(of_image, 4)
    b = run(~of_image & (rng.random(200) < 0.9), 4)
    found = compare(a, b)
    assert (found.method, found.groups, found.n) == ("sign-flip", 50, 200)
    # as independent rows the same difference would look far more certain
    apart = compare(run(of_image), run([one.scores[0, 0] for one in b]))
    assert apart.difference == pytest.approx(found.difference)
    assert found.high - found.low > 1.5 * (apart.high - apart.low)
    assert found.p_value > 5 * apart.p_value


def test_p_values_of_runs_alike_are_uniform() -> None:
    rng = np.random.default_rng(5)
    small = 0
    for _ in range(300):
        shared = np.repeat(rng.random(30), 4)
        a, b = rng.random(120) < shared, rng.random(120) < shared
        small += sign_flip((a.astype(float) - b).reshape(30, 4).sum(axis=1)) <= 0.05
    # at most 5 % of 300, within three standard errors
    assert small / 300 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
    assert small > 0


def test_runs_that_differ_nowhere_or_everywhere_keep_an_interval() -> None:
    same = compare(run([1, 0] * 20), run([1, 0] * 20))
    unseen = wilson(0, 40)[1]
    assert (same.difference, same.p_value) == (0, 1)
    assert (same.low, same.high) == pytest.approx((-unseen, unseen))
    all_better = compare(run([1] * 40), run([0] * 40))
    assert (all_better.difference, all_better.high) == (1, 1)
    assert all_better.low == pytest.approx(1 - 2 * unseen)
    few = compare(run([1] * 5), run([0] * 5))
    # of five groups that all differ alike, Clopper and Pearson let a share of 1 - 0.025^(1/5) be otherwise
    assert (few.low, few.high) == pytest.approx((1 - 2 * (1 - 0.025 ** (1 / 5)), 1))


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"calibration", "probability"}))
def test_every_mean_of_trials_compares(name: str) -> None:
    rng = np.random.default_rng(6)
    a = EXAMPLES[name](lambda shape, _: rng.integers(0, 3, shape) / 3)
    b = EXAMPLES[name](lambda shape, _: rng.integers(0, 3, shape) / 3)
    of_a, of_b = METRICS[name](a), METRICS[name](b)
    for part in of_a:
        full = f"{name}/{part}" if part else name
        found = compare(a, list(reversed(b)), full)
        assert found.difference == pytest.approx(of_a[part].value - of_b[part].value)
        assert found.low <= found.difference <= found.high
        assert 0 < found.p_value <= 1
        assert (found.n, found.groups) == (of_a[part].n, of_a[part].groups)


def test_reports_compare_by_their_records() -> None:
    a, b = run([1, 1, 1, 0]), run([1, 0, 0, 0])
    reports = [Report.from_records(of, ["accuracy"], settings={}) for of in (a, b)]
    assert compare(*reports) == compare(a, b)
    assert compare(*reports, metric="acc@1").difference == 0.5


def test_a_comparison_reads_well() -> None:
    found = Comparison("accuracy", 0.0123, -0.004, 0.0287, 0.14349, 5400, "sign-flip", 524)
    assert str(found) == "accuracy: +1.23 [-0.40, +2.87] percentage points, p = 0.143 (sign-flip, n = 5400)"
    assert found.to_dict()["p_value"] == 0.14349


def test_by_group() -> None:
    groups = ["subject", "predicate"] * 20
    rng = np.random.default_rng(5)
    a, b = (
        [
            dataclasses.replace(one, group=group)
            for one, group in zip(run(rng.random(40) < share), groups, strict=True)
        ]
        for share in (0.9, 0.5)
    )
    a.append(record("x", [[2, 1]], [[1, 0]], images=("x.jpg",)))  # of no group
    b.append(record("x", [[0, 1]], [[1, 0]], images=("x.jpg",)))
    of_group = [[record for record in records if record.group == "predicate"] for records in (a, b)]
    expected = dataclasses.replace(compare(*of_group), metric="accuracy/predicate")
    assert expected.n == 20
    assert compare(a, b, "accuracy/predicate") == expected
    assert compare(a, b, "accuracy", group="predicate") == expected
    assert compare(a, b).n == 41
    for metric, group in (("accuracy/verb", None), ("accuracy", "verb"), ("accuracy/predicate", "subject")):
        with pytest.raises(ConfigError, match="there is: accuracy; of the groups predicate, subject"):
            compare(a, b, metric, group)


def test_values_and_groups_are_told_apart() -> None:
    match = [[1, 0], [0, 1]]
    items = {"text": [[2, 1], [1, 2]], "b/c": [[2, 3], [1, 4]]}
    a = [record(f"{i}{name}", scores, match, group=name) for i in range(2) for name, scores in items.items()]
    b = [dataclasses.replace(one, scores=one.scores.T) for one in a]
    whole = compare(a, b, "winoground/text")  # a value, though there is a group of that name
    assert (whole.metric, whole.n) == ("winoground/text", 4)
    assert compare(a, b, "winoground/text", "b/c").n == 2
    assert compare(a, b, "winoground/text/b/c") == compare(a, b, "winoground/text", "b/c")


@pytest.mark.parametrize(
    ("a", "b", "metric", "words"),
    [
        (run([1, 0, 1]), run([1, 0]), "accuracy", "1 only in the first, 0 only in the second, 2 in both"),
        (run([1]), run([1, 0, 1]), "accuracy", "0 only in the first, 2 only in the second, 1 in both"),
        (run([1]), run([1], texts=("a", "b")), "accuracy", "1 items have other texts or matches .* '00000'"),
        (run([1]), [record("00000", [[1, 0]], [[0, 1]])], "accuracy", "1 items have other texts or matches"),
        (run([1]), [record("00000", [[1, 0, 0]], [[0, 1, 0]])], "accuracy", "other texts or matches"),
        (run([1]), run([1]), "accuracies", "unknown metric 'accuracies'"),
        (run([1]), run([1]), "accuracy/x", "there is no 'accuracy/x' to compare; there is: accuracy"),
        (run([1]), run([1]), "winoground/text", "not two images and two texts"),
        (run([1]), run([1]), "calibration/auroc", "calibration is not a mean over items"),
        ([], [], "accuracy", "no scored items"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    a: list[Record], b: list[Record], metric: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        compare(a, b, metric)
