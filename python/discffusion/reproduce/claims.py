"""What the paper claims of its rows, checked on the measured ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from discffusion.evaluation.record import Record
from discffusion.reproduce.columns import Column
from discffusion.reproduce.result import FAILS, HOLDS, IN_PART, NOT_MEASURED, UNDECIDED, Row, Verdict

__all__ = ["Check", "Claim", "Close", "answer", "find", "pooled", "same_seeds", "side", "variants"]

#: answers to a claim from the rows that were measured
Check = Callable[[Sequence[Row], Mapping[str, Column]], list[Verdict]]

BySeed = Mapping[int, Sequence[Record]]


def pooled(by_seed: BySeed) -> list[Record]:
    """The records of all seeds together; an item's images tie its records to each other in every interval."""
    if len(by_seed) == 1:
        return list(next(iter(by_seed.values())))
    return [
        replace(record, key=f"{record.key}@{seed}") for seed, records in by_seed.items() for record in records
    ]


def same_seeds(a: BySeed, b: BySeed) -> tuple[list[Record], list[Record]]:
    """The records of both, pooled over the seeds of the one that has more: the other does not depend on the seed."""
    seeds = max(a, b, key=len)
    return tuple(pooled({seed: of.get(seed, next(iter(of.values()))) for seed in seeds}) for of in (a, b))  # type: ignore[return-value]


def variants(rows: Sequence[Row]) -> list[str]:
    """The variants that rows have, in order; ``[""]`` if none has one."""
    return list(dict.fromkeys(row.variant for row in rows if row.variant)) or [""]


def find(rows: Sequence[Row], label: str, variant: str) -> Row | None:
    """The row of this label, of the variant or of none."""
    matching = [row for row in rows if row.label == label and row.variant in (variant, "")]
    return next((row for row in matching if row.variant == variant), matching[0] if matching else None)


@dataclass(frozen=True)
class Claim:
    """Each of the rows `better` is above each of the rows `worse`, in all of the columns.

    The claim holds if every difference, item by item, is above zero with its whole 95 % interval; it does not hold if
    one is below zero with its whole interval; else it is undecided, or not measured in full where a comparison is
    missing. It is answered for every variant of the score.
    """

    text: str
    better: tuple[str, ...]
    worse: tuple[str, ...]
    columns: tuple[str, ...] = ("All",)

    def __call__(self, rows: Sequence[Row], columns: Mapping[str, Column]) -> list[Verdict]:
        return _by_variant(
            rows, (*self.better, *self.worse), lambda mine, of: self._verdict(mine, columns, of)
        )

    def _verdict(self, rows: Sequence[Row], columns: Mapping[str, Column], variant: str) -> Verdict:
        details, signs, lacking = [], [], []
        for one in self.better:
            for other in self.worse:
                for name in self.columns:
                    a, b = find(rows, one, variant), find(rows, other, variant)
                    if a is None or b is None or name not in a.records or name not in b.records:
                        lacking.append(f"{one} − {other}, {name}")
                        continue
                    comparison = columns[name].compare(*same_seeds(a.records[name], b.records[name]))
                    signs.append(side(comparison.low, comparison.high))
                    interval = f"{100 * comparison.low:+.1f} to {100 * comparison.high:+.1f}"
                    details.append(
                        f"{one} − {other}, {name}: {100 * comparison.difference:+.1f} ({interval})"
                    )
        if lacking:
            details.append(f"not measured: {', '.join(lacking)}")
        return Verdict(self.text, answer(signs, lacking), "; ".join(details), variant)


def answer(signs: Sequence[int], lacking: Sequence[str] = ()) -> str:
    """The answer to a claim from its comparisons.

    One that fails decides whatever else there is; a claim holds only where all of it was measured.

    Args:
        signs: of those that were measured: 1 clearly above, -1 clearly below, 0 undecided.
        lacking: names of those that were not.
    """
    if not signs:
        return NOT_MEASURED
    if -1 in signs:
        return FAILS
    if lacking:
        return IN_PART
    return HOLDS if all(sign > 0 for sign in signs) else UNDECIDED


def side(low: float, high: float, mark: float = 0.0) -> int:
    """On which side of a mark a whole interval lies: 1 above, -1 below, 0 on neither."""
    return 1 if low > mark else -1 if high < mark else 0


def _by_variant(
    rows: Sequence[Row], labels: Sequence[str], verdict: Callable[[Sequence[Row], str], Verdict]
) -> list[Verdict]:
    """An answer for every variant in which all of the rows were to be measured; at least one."""
    mine = [row for row in rows if row.label in labels]
    of_mine = variants(mine)
    whole = [of for of in of_mine if all(find(mine, label, of) is not None for label in labels)]
    return [verdict(mine, of) for of in whole or of_mine[:1]]


@dataclass(frozen=True)
class Close:
    """Two rows differ by no more than `within` (a fraction): the whole interval of their difference lies inside."""

    text: str
    one: str
    other: str
    within: float = 0.02
    column: str = "All"

    def __call__(self, rows: Sequence[Row], columns: Mapping[str, Column]) -> list[Verdict]:
        return _by_variant(rows, (self.one, self.other), lambda mine, of: self._verdict(mine, columns, of))

    def _verdict(self, rows: Sequence[Row], columns: Mapping[str, Column], variant: str) -> Verdict:
        a, b = find(rows, self.one, variant), find(rows, self.other, variant)
        if a is None or b is None or self.column not in a.records or self.column not in b.records:
            return Verdict(self.text, NOT_MEASURED, f"there is no value of both in {self.column}", variant)
        comparison = columns[self.column].compare(*same_seeds(a.records[self.column], b.records[self.column]))
        if -self.within <= comparison.low and comparison.high <= self.within:
            answer = HOLDS
        else:
            answer = FAILS if comparison.low > self.within or comparison.high < -self.within else UNDECIDED
        detail = (
            f"{self.one} − {self.other}, {self.column}: {100 * comparison.difference:+.1f} "
            f"({100 * comparison.low:+.1f} to {100 * comparison.high:+.1f}); close is within {100 * self.within:g}"
        )
        return Verdict(self.text, answer, detail, variant)
