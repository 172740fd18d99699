"""What a metric is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from discffusion.evaluation.estimate import Estimate
from discffusion.evaluation.record import Record, clusters_of, ordered
from discffusion.evaluation.trials import Trials, estimates

__all__ = ["Metric", "Result"]


@dataclass(frozen=True)
class Result:
    """What a metric found: values by name (``""`` if there is only one) and sentences that belong beside them."""

    values: Mapping[str, Estimate]
    notes: tuple[str, ...] = ()


#: both take the records in order of their keys
ToTrials: TypeAlias = Callable[[list[Record]], Trials]
ToResult: TypeAlias = Callable[[list[Record]], Result]


@dataclass(frozen=True)
class Metric:
    """A metric: a function of records to values with intervals.

    Attributes:
        name: as it is asked for.
        line: what it measures, in one line.
        trials: counts its trials, for a metric that is a mean of them; others have `direct`.
        direct: finds its values where there are no trials.
        by_group: whether it is measured for every group of items too.
        unit: of its values: ``"share"`` of 1, or ``"score"``, in the scorer's own units.
    """

    name: str
    line: str
    trials: ToTrials | None = None
    direct: ToResult | None = None
    by_group: bool = True
    unit: str = "share"

    def measure(self, records: Iterable[Record]) -> Result:
        """The values and what must be said of them; the order of the records does not matter.

        Raises:
            ConfigError: the metric does not apply to these records, or there are none.
        """
        in_order = ordered(records)
        if self.trials is None:
            assert self.direct is not None
            return self.direct(in_order)
        counted = self.trials(in_order)
        return Result(estimates(counted, clusters_of(in_order), self.unit), counted.notes)

    def __call__(self, records: Iterable[Record]) -> dict[str, Estimate]:
        """The values by name; ``""`` names the value of a metric that has one."""
        return dict(self.measure(records).values)
