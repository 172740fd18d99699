"""Intervals of few image groups hold the truth as often as they say."""

from __future__ import annotations

import pytest
from tests.benchmarks.coverage import DIFFERENCES, VALUES, held_difference, held_value

# 400 samples know a share of 95 % to a standard error of 1.1 %; the program itself draws more
RUNS = 400


@pytest.mark.parametrize("groups", [3, 5, 10])
@pytest.mark.parametrize(
    "name",
    [
        "a 0/1 trial a group, 0.9",
        "5 rows a group, 0.5",
        "20 rows a group, 0.75",
        "4 comparisons a group, 0.8",
        "mean of 3 leaves, 0.7",
    ],
)
def test_intervals_of_few_groups_hold_the_truth(name: str, groups: int) -> None:
    sample, truth = VALUES[name]
    assert held_value(sample, truth, groups, RUNS) >= 0.93


@pytest.mark.parametrize("groups", [3, 5, 10])
@pytest.mark.parametrize(
    "name", ["difference of 0.9 and 0.7, alike", "difference of 0.9 and 0.6, 4 rows a group"]
)
def test_intervals_of_differences_of_few_groups_hold_the_truth(name: str, groups: int) -> None:
    pair, truth = DIFFERENCES[name]
    assert held_difference(pair, truth, groups, RUNS // 2) >= 0.93
