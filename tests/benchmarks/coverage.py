"""How often 95 % intervals hold the truth, by the number of image groups.

    python -m tests.benchmarks.coverage --runs 4000

Samples are drawn from populations whose truth is known, measured as every metric and comparison is, and the share of
intervals that hold the truth is counted. What is kept in the tests is ``tests/python/evaluation/test_coverage.py``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from discffusion.evaluation.compare import _compared
from discffusion.evaluation.trials import Trials, estimates

__all__ = ["DIFFERENCES", "GROUPS", "VALUES", "held_difference", "held_value"]

GROUPS = (3, 5, 10, 20, 50)

Numbers: TypeAlias = NDArray[np.float64]
#: a random generator and a number of groups -> trials, and the group of each
Sample: TypeAlias = Callable[[np.random.Generator, int], tuple[Trials, NDArray[np.intp]]]
Pair: TypeAlias = Callable[[np.random.Generator, int], tuple[Trials, Trials, NDArray[np.intp]]]


def trials(credit: Numbers, group: NDArray[np.intp], leaf: NDArray[np.intp] | None = None) -> Trials:
    """Trials that are a record each; the value is the mean of the leaves' means."""
    number = len(credit)
    leaf = np.zeros(number, np.intp) if leaf is None else leaf
    leaves = int(leaf.max()) + 1
    ties = np.zeros(number, np.intp)
    return Trials(credit, np.arange(number), ties, leaf, {"": np.full(leaves, 1 / leaves)})


def single(truth: float) -> Sample:
    """A 0/1 trial a group."""

    def draw(rng: np.random.Generator, groups: int) -> tuple[Trials, NDArray[np.intp]]:
        group = np.arange(groups)
        return trials((rng.random(groups) < truth).astype(float), group), group

    return draw


def rows(truth: float, alike: float, number: int | None) -> Sample:
    """Several 0/1 trials a group, 1 to 7 where `number` is None; each group has a share of its own.

    Args:
        alike: how much groups are alike, the sum of the parameters of the beta distribution of their shares.
    """

    def draw(rng: np.random.Generator, groups: int) -> tuple[Trials, NDArray[np.intp]]:
        share = rng.beta(truth * alike, (1 - truth) * alike, size=groups)
        sizes = rng.integers(1, 8, size=groups) if number is None else np.full(groups, number)
        group = np.repeat(np.arange(groups), sizes)
        return trials((rng.random(len(group)) < share[group]).astype(float), group), group

    return draw


def quarters(truth: float, alike: float, leaves: int = 1) -> Sample:
    """An item a group, of which 0 to 4 of four comparisons are won; leaves take turns."""

    def draw(rng: np.random.Generator, groups: int) -> tuple[Trials, NDArray[np.intp]]:
        group = np.arange(groups)
        won = rng.binomial(4, rng.beta(truth * alike, (1 - truth) * alike, size=groups)) / 4
        return trials(won, group, group % leaves), group

    return draw


def two_runs(first: float, second: float, shared: float, number: int = 1) -> Pair:
    """Two runs on the same items: with probability `shared` a trial has the same draw in both."""

    def draw(rng: np.random.Generator, groups: int) -> tuple[Trials, Trials, NDArray[np.intp]]:
        group = np.repeat(np.arange(groups), number)
        size = len(group)
        one = rng.random(size)
        other = np.where(rng.random(size) < shared, one, rng.random(size))
        return (
            trials((one < first).astype(float), group),
            trials((other < second).astype(float), group),
            group,
        )

    return draw


#: what is drawn, and its truth
VALUES: dict[str, tuple[Sample, float]] = {
    **{f"a 0/1 trial a group, {p}": (single(p), p) for p in (0.5, 0.7, 0.8, 0.9, 0.95)},
    **{f"5 rows a group, {p}": (rows(p, 2, 5), p) for p in (0.5, 0.7, 0.9)},
    "20 rows a group, 0.75": (rows(0.75, 8, 20), 0.75),
    **{f"1 to 7 rows a group, {p}": (rows(p, 2, None), p) for p in (0.6, 0.85)},
    **{f"4 comparisons a group, {p}": (quarters(p, 3), p) for p in (0.5, 0.8, 0.95)},
    "4 comparisons a group, groups alike, 0.8": (quarters(0.8, 30), 0.8),
    **{f"mean of {n} leaves, 0.7": (quarters(0.7, 3, n), 0.7) for n in (2, 3)},
}
DIFFERENCES: dict[str, tuple[Pair, float]] = {
    "difference of 0.9 and 0.7, alike": (two_runs(0.9, 0.7, 0.8), 0.2),
    "difference of 0.8 and 0.7": (two_runs(0.8, 0.7, 0.0), 0.1),
    "no difference of 0.75": (two_runs(0.75, 0.75, 0.5), 0.0),
    "difference of 0.95 and 0.4": (two_runs(0.95, 0.4, 0.0), 0.55),
    "difference of 0.9 and 0.6, 4 rows a group": (two_runs(0.9, 0.6, 0.5, 4), 0.3),
}


def held_value(sample: Sample, truth: float, groups: int, runs: int, seed: int = 0) -> float:
    """The share of intervals of a value that hold the truth."""
    rng, held = np.random.default_rng([seed, groups]), 0
    for _ in range(runs):
        found = estimates(*sample(rng, groups))[""]
        held += found.low - 1e-9 <= truth <= found.high + 1e-9
    return held / runs


def held_difference(sample: Pair, truth: float, groups: int, runs: int, seed: int = 0) -> float:
    """The share of intervals of a comparison that hold the truth."""
    rng, held = np.random.default_rng([seed, groups]), 0
    for _ in range(runs):
        found = _compared("accuracy", "", *sample(rng, groups), "share")
        held += found.low - 1e-9 <= truth <= found.high + 1e-9
    return held / runs


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=2000)
    runs = parser.parse_args(arguments).runs
    print(f"Share of {runs} intervals that hold the truth, percent, by image groups\n")
    print("| population | " + " | ".join(map(str, GROUPS)) + " |")
    print("|---" * (len(GROUPS) + 1) + "|")
    for name, (value, truth) in VALUES.items():
        print(_line(name, [held_value(value, truth, groups, runs) for groups in GROUPS]), flush=True)
    for name, (pair, truth) in DIFFERENCES.items():
        print(_line(name, [held_difference(pair, truth, groups, runs) for groups in GROUPS]), flush=True)


def _line(name: str, shares: list[float]) -> str:
    return f"| {name} | " + " | ".join(f"{100 * share:.1f}" for share in shares) + " |"


if __name__ == "__main__":
    main()
