"""Accuracy, Acc@K and Winoground against independent counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.python.evaluation.scored import random_records, record
from torchmetrics.functional.retrieval import retrieval_hit_rate

from discffusion import ConfigError
from discffusion.evaluation.metrics import METRICS, metric_named
from discffusion.evaluation.record import Record


def by_hand(one: Record) -> list[int]:
    """1 won, 0 tied, -1 lost, for each comparison of an item, in plain loops."""
    images, texts = one.scores.shape
    found = []
    for i in range(images):
        for j in range(texts):
            if not one.match[i, j]:
                continue
            rivals = [one.scores[i, k] for k in range(texts) if not one.match[i, k]]
            rivals += [one.scores[k, j] for k in range(images) if not one.match[k, j]]
            found += [int(np.sign(one.scores[i, j] - rival)) for rival in rivals]
    return found


@settings(max_examples=60, deadline=None)
@given(random_records())
def test_accuracy_is_the_mean_over_items_of_comparisons_won(records: list[Record]) -> None:
    outcomes = [found for found in map(by_hand, records) if found]
    if not outcomes:
        with pytest.raises(ConfigError, match="no item holds a matching pair"):
            METRICS["accuracy"](records)
        return
    estimate = METRICS["accuracy"](records)[""]
    assert estimate.value == pytest.approx(np.mean([np.mean(np.array(found) > 0) for found in outcomes]))
    assert estimate.ties == sum(found.count(0) for found in outcomes)
    assert estimate.n == len(outcomes)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_items_that_compare_nothing_are_counted_in_a_note() -> None:
    pair = record("a", [[1, 0]], [[1, 0]])
    found = METRICS["accuracy"].measure([pair, record("b", [[1]], [[1]]), record("c", [[1, 2]], [[0, 0]])])
    assert (found.values[""].value, found.values[""].n) == (1, 1)
    assert found.notes == ("2 items compare nothing and are left out of accuracy",)


@settings(max_examples=40, deadline=None)
@given(random_records(), st.integers(1, 3))
def test_acc_at_k_agrees_with_the_hit_rate_of_torchmetrics(records: list[Record], k: int) -> None:
    hits = []
    for one in records:
        sides = [(one.scores, one.match)] if one.scores.shape[1] > 1 or one.scores.shape[0] == 1 else []
        sides += [(one.scores.T, one.match.T)] if one.scores.shape[0] > 1 else []
        for scores, match in sides:
            for row, right in zip(scores, match, strict=True):
                if right.any() and (~right).sum() >= k:
                    # levels are 1/3 apart: less than that sorts a tie against us, and changes nothing else
                    against_us = torch.tensor(row - 0.1 * right)
                    hits.append(retrieval_hit_rate(against_us, torch.tensor(right), top_k=k).item())
    if not hits:
        with pytest.raises(ConfigError, match=f"beside {k} or more that do not"):
            metric_named(f"acc@{k}")(records)
        return
    estimate = metric_named(f"acc@{k}")(records)[""]
    assert estimate.value == pytest.approx(np.mean(hits))
    assert estimate.n == len(hits)


def test_acc_at_k_by_hand() -> None:
    match = [[0, 1, 0, 0]]
    records = [
        record("first", [[1, 4, 2, 3]], match),
        record("second", [[5, 4, 2, 3]], match),
        record("tied", [[4, 4, 2, 3]], match),
        record("third", [[5, 4, 6, 3]], match),
    ]
    assert METRICS["acc@1"](records)[""].value == 0.25
    assert metric_named("acc@2")(records)[""].value == 0.75
    assert metric_named("acc@3")(records)[""].value == 1
    assert METRICS["acc@1"](records)[""].ties == 1
    with pytest.raises(ConfigError, match="beside 5 or more"):
        METRICS["acc@5"](records)
    assert METRICS["acc@1"].measure([*records, record("none", [[1, 2]], [[0, 0]])]).notes == (
        "1 queries without a match, or with fewer than 1 others, are left out of acc@1",
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 2)] * 4, st.booleans()), min_size=1, max_size=10))
def test_winoground_is_its_formula(items: list[tuple[int, int, int, int, bool]]) -> None:
    text, image, records = [], [], []
    for index, (c0_i0, c1_i0, c0_i1, c1_i1, crossed) in enumerate(items):
        matrix = np.array([[c0_i0, c1_i0], [c0_i1, c1_i1]])
        text.append(c0_i0 > c1_i0 and c1_i1 > c0_i1)
        image.append(c0_i0 > c0_i1 and c1_i1 > c1_i0)
        # the same item with its images listed in the other order
        step = -1 if crossed else 1
        records.append(record(f"{index:02}", matrix[::step], np.eye(2)[::step]))
    found = METRICS["winoground"](records)
    both = np.array(text) & np.array(image)
    for name, won in (("text", text), ("image", image), ("group", both)):
        assert found[name].value == pytest.approx(np.mean(won))
        assert (found[name].n, found[name].method) == (len(items), "exact")


def test_winoground_counts_ties_of_texts_and_of_images_apart() -> None:
    found = METRICS["winoground"]([record("a", [[1, 1], [0, 2]], np.eye(2))])
    assert [found[name].ties for name in ("text", "image", "group")] == [1, 0, 1]
    assert [found[name].value for name in ("text", "image", "group")] == [0, 1, 0]


@pytest.mark.parametrize(
    "one",
    [
        record("odd", [[1, 2]], [[1, 0]]),
        record("odd", np.zeros((2, 2)), [[1, 1], [0, 0]]),
        record("odd", np.zeros((3, 3)), np.eye(3)),
    ],
)
def test_winoground_refuses_what_is_not_two_by_two(one: Record) -> None:
    with pytest.raises(ConfigError, match="item 'odd' is not two images and two texts that match one to one"):
        METRICS["winoground"]([one])
