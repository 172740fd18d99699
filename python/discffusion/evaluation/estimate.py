"""A measured value with its interval."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Estimate"]


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval, as fractions from 0 to 1; tables show percent.

    Attributes:
        value: the value measured.
        low, high: ends of the 95 % interval; the value lies between them.
        n: number of trials (items, questions, queries, ...) the value is a mean of.
        ties: comparisons of a matching with a non-matching candidate that have equal scores. They earn nothing.
        method: how the interval was found: ``"wilson"`` (0/1 trials that share no image), ``"bootstrap"``
            (image groups resampled), ``"delong"`` (variance of the area under a curve between image groups).
        groups: number of independent image groups the trials come from.
    """

    value: float
    low: float
    high: float
    n: int
    ties: int
    method: str
    groups: int

    def __str__(self) -> str:
        return f"{self.value:.2%} [{self.low:.2%}, {self.high:.2%}]"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        return asdict(self)
