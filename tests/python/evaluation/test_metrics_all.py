"""What holds for every metric: no credit for a constant, no matter the order; and how metrics are named."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.python.evaluation.scored import EXAMPLES, record

from discffusion import ConfigError, MatchItem
from discffusion.evaluation.metrics import METRICS, auto_metrics, describe_metrics, metric_named

#: lower is better, and what a constant scorer earns there is said in a test of its own
ERRORS = ("ece", "brier")
#: the others are in units of the score
SHARES = sorted(name for name, metric in METRICS.items() if metric.unit == "share")


def test_every_metric_has_an_example_and_a_line() -> None:
    assert set(EXAMPLES) == set(METRICS) == set(describe_metrics())


@pytest.mark.parametrize("name", SHARES)
@pytest.mark.parametrize("level", [0.0, -3.5, 1e9])
def test_a_constant_scorer_gets_no_credit(name: str, level: float) -> None:
    found = METRICS[name](EXAMPLES[name](lambda shape, _: np.full(shape, level)))
    for part, estimate in found.items():
        if part not in ERRORS:
            assert estimate.value == estimate.low == 0, part
            assert 0 < estimate.high < 1
        assert estimate.ties > 0, part


@pytest.mark.parametrize("name", SHARES)
def test_the_right_scores_earn_everything(name: str) -> None:
    records = [
        replace(
            one, scores=one.match * 2.0, probabilities=None if one.probabilities is None else one.match * 1.0
        )
        for one in EXAMPLES[name](lambda shape, _: np.zeros(shape))
    ]
    for part, estimate in METRICS[name](records).items():
        if part in ERRORS:
            assert estimate.value < 0.1, part
        elif name != "vqa":  # where people disagree nobody is wholly right
            assert estimate.value == estimate.high == 1, part
            assert estimate.ties == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=32, max_size=32))
def test_a_scorer_that_sees_only_images_or_only_texts_gets_no_winoground_credit(levels: list[int]) -> None:
    of_image = EXAMPLES["winoground"](
        lambda _, i: np.repeat(np.array(levels[2 * i : 2 * i + 2])[:, None], 2, axis=1)
    )
    of_text = EXAMPLES["winoground"](
        lambda _, i: np.repeat(np.array(levels[2 * i : 2 * i + 2])[None, :], 2, axis=0)
    )
    for records, blind in ((of_image, "text"), (of_text, "image")):
        found = METRICS["winoground"](records)
        assert found[blind].value == found["group"].value == 0
        # of the four comparisons of an item two are ties, and one of the others is lost
        assert METRICS["accuracy"](records)[""].value <= 0.25
        assert METRICS["acc@1"](records)[""].value <= 0.25


@pytest.mark.parametrize("name", ["acc@1", "acc@5", "kinds", "vqa"])
def test_a_scorer_that_sees_only_the_image_gets_no_credit_for_choosing_texts(name: str) -> None:
    records = EXAMPLES[name](lambda shape, i: np.full(shape, float(i)))
    assert METRICS[name](records)[""].value == 0


@pytest.mark.parametrize("name", sorted(METRICS))
def test_the_order_of_records_does_not_matter(name: str) -> None:
    rng = np.random.default_rng(5)
    records = EXAMPLES[name](lambda shape, _: rng.integers(0, 3, shape) / 3)
    found = METRICS[name].measure(records)
    random.Random(1).shuffle(records)
    assert METRICS[name].measure(iter(records)) == found


@pytest.mark.parametrize("name", sorted(METRICS))
def test_no_records_and_repeated_keys_are_errors(name: str) -> None:
    with pytest.raises(ConfigError, match="no scored items"):
        METRICS[name]([])
    first = EXAMPLES[name](lambda shape, _: np.zeros(shape))[0]
    with pytest.raises(ConfigError, match=f"two scored items have the key '{first.key}'"):
        METRICS[name]([first, first])


def test_large_and_small_items_are_counted_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    records = [
        record(f"{i}", rng.integers(0, 4, (3, 4)), rng.random((3, 4)) < 0.4, images=("a", "b", "c"))
        for i in range(20)
    ]
    whole = METRICS["accuracy"](records)
    monkeypatch.setattr("discffusion.evaluation.metrics.pairs._AT_ONCE", 7)
    assert METRICS["accuracy"](records) == whole


@pytest.mark.parametrize("name", ["acuracy", "acc@0", "acc@", "acc@-1", "Acc@1", "", 5, None])
def test_an_unknown_metric_lists_all(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown metric .*; there are: .*accuracy.*acc@K for any K"):
        metric_named(name)


def _item(match: object) -> MatchItem:
    right = np.array(match, bool)
    return MatchItem("k", ["i"] * right.shape[0], ["t"] * right.shape[1], right)


@pytest.mark.parametrize(
    ("matches", "expected"),
    [
        ([np.eye(2)], ("accuracy", "winoground")),
        ([np.eye(2)[::-1], np.eye(2)], ("accuracy", "winoground")),
        ([[[1], [0]]], ("accuracy",)),
        ([[[1]]], ("mean_score",)),
        ([[[1, 1]], [[1], [1]]], ("mean_score",)),
        ([[[1, 0], [0, 0]]], ("accuracy",)),
        ([[[1]], [[1, 0]]], ("accuracy",)),
        ([[[0, 0]]], ("accuracy",)),  # there is nothing to measure, and accuracy says so
        ([np.eye(2), [[1, 0]]], ("accuracy",)),
        ([[[1, 0, 0]]], ("accuracy", "acc@1")),
        ([[[1, 1, 0, 0, 0, 0]]], ("accuracy", "acc@1")),
        ([[[1, 0, 0, 0, 0, 0]]], ("accuracy", "acc@1", "acc@5")),
        ([], ("accuracy",)),
    ],
)
def test_metrics_that_suit_a_list(matches: list[object], expected: tuple[str, ...]) -> None:
    assert auto_metrics([_item(match) for match in matches]) == expected


def test_suiting_metrics_apply() -> None:
    records = [record("a", np.zeros((1, 6)), [[1, 0, 0, 0, 0, 0]]), record("b", np.zeros((1, 2)), [[0, 1]])]
    for name in auto_metrics(records):
        assert metric_named(name)(records)[""].value == 0
