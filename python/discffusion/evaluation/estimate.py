"""A measured value with its interval."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Estimate"]


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval: fractions from 0 to 1, of which tables show percent, or scores as they are.

    Attributes:
        value: the value measured.
        low, high: ends of the 95 % interval; the value lies between them.
        n: number of trials (items, questions, queries, ...) the value is a mean of.
        ties: comparisons of a matching with a non-matching candidate that have equal scores. They earn nothing.
        method: how the interval was found: ``"wilson"`` (0/1 trials that share no image), ``"bootstrap"``
            (image groups resampled), ``"delong"`` (variance of the area under a curve between image groups); with fewer
            than 30 image groups ``"exact"`` (Clopper and Pearson's, of 0/1 trials) and ``"t"`` (Student's, with the
            jackknife's standard error); ``"none"`` (both ends are the value: a score of one image group).
        groups: number of independent image groups the trials come from.
        unit: ``"share"`` of 1, or ``"score"``, in the scorer's own units.
    """

    value: float
    low: float
    high: float
    n: int
    ties: int
    method: str
    groups: int
    unit: str = "share"

    def __str__(self) -> str:
        if self.unit == "score":
            return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"
        return f"{self.value:.2%} [{self.low:.2%}, {self.high:.2%}]"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        return asdict(self)
