"""Two runs on the same items: the difference of a metric, its interval and its p-value."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion.errors import ConfigError
from discffusion.evaluation.intervals import SEED, of_groups, of_proportion
from discffusion.evaluation.metrics import metric_named
from discffusion.evaluation.record import Record, clusters_of, ordered
from discffusion.evaluation.report import Report
from discffusion.evaluation.trials import Trials, cluster_sums, flag, weighted

__all__ = ["Comparison", "compare", "mcnemar", "sign_flip"]

#: how often the signs of differences are drawn
PERMUTATIONS = 10_000
#: groups that an error names
_NAMED = 20
#: numbers held at a time
_AT_ONCE = 1 << 21


@dataclass(frozen=True)
class Comparison:
    """How much better the first of two runs is than the second.

    Attributes:
        metric: the value compared.
        difference: the first's value less the second's: -1 to 1, or in units of the score.
        low, high: ends of its 95 % interval.
        p_value: two-sided, of no difference.
        n: trials, the same in both.
        method: the test: ``"mcnemar"`` (exact; 0/1 trials that share no image) or ``"sign-flip"`` (signs of the
            differences of image groups drawn at random, or all of them where they are few).
        groups: number of independent image groups.
        unit: ``"share"``, or ``"score"`` where the difference is one of scores.
    """

    metric: str
    difference: float
    low: float
    high: float
    p_value: float
    n: int
    method: str
    groups: int
    unit: str = "share"

    def __str__(self) -> str:
        if self.unit == "score":
            return (
                f"{self.metric}: {self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}], "
                f"p = {self.p_value:.3g} ({self.method}, n = {self.n})"
            )
        points = f"{self.difference * 100:+.2f} [{self.low * 100:+.2f}, {self.high * 100:+.2f}]"
        return (
            f"{self.metric}: {points} percentage points, p = {self.p_value:.3g} ({self.method}, n = {self.n})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        return asdict(self)


def compare(
    a: Report | Iterable[Record],
    b: Report | Iterable[Record],
    metric: str = "accuracy",
    group: str | None = None,
) -> Comparison:
    """Compares two runs on the same items, item by item. The difference is `a` − `b`.

    Args:
        a: the one expected to be better; a report or scored items.
        b: the other.
        metric: a value's name, such as ``"accuracy"`` or ``"winoground/group"``; or with a group of items behind it,
            such as ``"accuracy/predicate"``, where no value has that name.
        group: only items of this group.

    Raises:
        ConfigError: the items differ, or the metric or group is unknown, or the metric does not apply or is no mean of
            trials.
    """
    first, second = _records(a), _records(b)
    _same_items(first, second)
    name, _, output = metric.partition("/")
    chosen = metric_named(name)
    if chosen.trials is None:
        raise ConfigError(
            f"{name} is not a mean over items, so two runs cannot be compared item by item by it"
        )
    outputs = chosen.trials(first).outputs
    groups = sorted({record.group for record in first if record.group is not None}) if chosen.by_group else []
    if output not in outputs and group is None:
        output, group = _with_group(output, outputs, groups)
    if output not in outputs or (group is not None and group not in groups):
        values = ", ".join(f"{name}/{part}" if part else name for part in outputs)
        asked = metric if group is None else f"{metric} of the group {group}"
        some = ", ".join(groups[:_NAMED]) + (", …" if len(groups) > _NAMED else "")
        raise ConfigError(
            f"there is no {asked!r} to compare; there is: {values}"
            + (f"; of the groups {some}" if groups else "")
        )
    if group is not None:
        first = [record for record in first if record.group == group]
        keys = {record.key for record in first}
        second = [record for record in second if record.key in keys]
    title = f"{name}/{output}" if output else name
    of_a, of_b = chosen.trials(first), chosen.trials(second)
    title = title if group is None else f"{title}/{group}"
    return _compared(title, output, of_a, of_b, clusters_of(first), chosen.unit)


def _with_group(asked: str, outputs: Iterable[str], groups: list[str]) -> tuple[str, str | None]:
    """What is asked for as a value's name and a group."""
    for output in outputs:
        rest = asked.removeprefix(f"{output}/") if output else asked
        if rest in groups and (not output or rest != asked):
            return output, rest
    return asked, None


def _compared(
    metric: str, output: str, a: Trials, b: Trials, clusters: NDArray[np.intp], unit: str
) -> Comparison:
    kept = a.of_output(output)
    won, lost = a.credit[kept], b.credit[kept]
    weights = a.outputs[output]
    statistic = weighted(weights[weights != 0])
    sums = cluster_sums(won - lost, a.leaf[kept], clusters[a.record[kept]])
    total = sums.sum(axis=0)
    difference, groups = float(statistic(total)), len(sums)
    if a.ends is not None and sums.shape[1] == 2 and len(won) == groups and flag(won) and flag(lost):
        p_value, method = mcnemar(int((won > lost).sum()), int((won < lost).sum())), "mcnemar"
    else:
        # what each group adds to the difference
        leaves = sums.shape[1] // 2
        p_value = sign_flip(sums[:, :leaves] @ (weights[weights != 0] / weights.sum() / total[leaves:]))
        method = "sign-flip"
    reach = None if a.ends is None else a.ends[1] - a.ends[0]
    drawn = of_groups(sums, statistic, None if reach is None else (-reach, reach))
    if drawn is not None:
        low, high = drawn[:2]
    else:
        low, high = (difference, difference) if reach is None else _unseen(difference, groups)
    low, high = min(low, difference), max(high, difference)
    return Comparison(metric, difference, low, high, p_value, len(won), method, groups, unit)


def mcnemar(won: int, lost: int) -> float:
    """The exact two-sided p-value of as many trials that only one of two runs, and only the other, got right."""
    trials, fewer = won + lost, min(won, lost)
    tail = sum(math.comb(trials, count) for count in range(fewer + 1))
    # whole numbers: 2 ** trials may be beyond what a float holds
    return min(1.0, (2 * tail) / (1 << trials))


def sign_flip(parts: NDArray[np.float64]) -> float:
    """The two-sided p-value of a sum whose parts are as likely to have the other sign.

    Exact where there are no more sign patterns than would be drawn.

    Args:
        parts: float64 ``[n]``, one an independent group.
    """
    parts = parts[np.abs(parts) > 1e-15]
    # rounding is not to count as a difference
    reached = abs(float(parts.sum())) - 1e-12 * float(np.abs(parts).sum())
    if 1 << len(parts) <= PERMUTATIONS:
        patterns = np.arange(1 << len(parts))[:, None] >> np.arange(len(parts)) & 1
        sums = np.abs((1 - 2.0 * patterns) @ parts)
        return float((sums >= reached).mean())
    rng = np.random.default_rng(SEED)
    at_once = max(1, _AT_ONCE // len(parts))
    beyond = 0
    for start in range(0, PERMUTATIONS, at_once):
        rows = min(at_once, PERMUTATIONS - start)
        signs = 1 - 2.0 * rng.integers(2, size=(rows, len(parts)), dtype=np.int8)
        beyond += int((np.abs(signs @ parts) >= reached).sum())
    return (beyond + 1) / (PERMUTATIONS + 1)


def _unseen(difference: float, groups: int) -> tuple[float, float]:
    """Where all groups differ alike: groups not seen may differ otherwise, as many as the interval of 0 allows."""
    share = of_proportion(0.0, groups)[1]
    return (1 - share) * difference - share, (1 - share) * difference + share


def _records(given: Report | Iterable[Record]) -> list[Record]:
    return ordered(given.records if isinstance(given, Report) else given)


def _same_items(a: list[Record], b: list[Record]) -> None:
    by_key = {record.key: record for record in b}
    only_a = [record.key for record in a if record.key not in by_key]
    only_b = len(b) - (len(a) - len(only_a))
    if only_a or only_b:
        raise ConfigError(
            f"the runs hold different items: {len(only_a)} only in the first, {only_b} only in the second, "
            f"{len(a) - len(only_a)} in both; compare needs the same items in both"
        )
    other = [
        record.key
        for record in a
        if record.match.shape != by_key[record.key].match.shape
        or (record.match != by_key[record.key].match).any()
        or record.texts != by_key[record.key].texts
    ]
    if other:
        raise ConfigError(
            f"{len(other)} items have other texts or matches in the two runs, the first is {other[0]!r}; compare "
            "needs the same items in both"
        )
