"""Pair accuracy: how often a matching pair scores above one that does not match."""

from __future__ import annotations

from discffusion.errors import ConfigError
from discffusion.evaluation.metrics.metric import Metric
from discffusion.evaluation.metrics.pairs import compared
from discffusion.evaluation.record import Record
from discffusion.evaluation.trials import Trials

__all__ = ["METRIC"]


def trials(records: list[Record]) -> Trials:
    """A trial is an item: the share of its comparisons that are won."""
    comparisons = compared(records)
    held = comparisons.held
    if len(held) == 0:
        raise ConfigError(
            "accuracy: no item holds a matching pair beside one of its image or text that does not match"
        )
    out = len(records) - len(held)
    note = f"{out} items compare nothing and are left out of accuracy" if out else ""
    return Trials.plain(comparisons.share(), held, comparisons.ties[held], note)


METRIC = Metric(
    "accuracy",
    "share of comparisons in which the matching pair scores strictly higher, mean over items",
    trials,
)
