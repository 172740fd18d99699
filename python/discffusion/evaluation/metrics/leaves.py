"""Means of means: pair accuracy per leaf of items, and averages over leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from discffusion.errors import ConfigError
from discffusion.evaluation.metrics.pairs import compared
from discffusion.evaluation.record import Record
from discffusion.evaluation.trials import Trials

__all__ = ["averaged", "group_of", "mean_of"]


def group_of(record: Record, metric: str, what: str) -> str:
    """The group of a record.

    Raises:
        ConfigError: it has none; the message says what `metric` needs it for.
    """
    if not record.group:
        raise ConfigError(f"{metric}: item {record.key!r} has no group; it must be {what}")
    return record.group


def averaged(
    records: list[Record],
    leaves: Sequence[str],
    outputs: Mapping[str, Mapping[str, float]],
    metric: str,
    notes: Sequence[str] = (),
) -> Trials:
    """Trials whose credit is the share of an item's comparisons that are won, counted per leaf.

    Args:
        records: in the order of their keys.
        leaves: the leaf of each record.
        outputs: name of a value -> weight of each leaf in it.
        metric: its name, for errors.
        notes: sentences that belong beside the values.

    Raises:
        ConfigError: an item compares nothing.
    """
    comparisons = compared(records)
    if len(comparisons.held) < len(records):
        silent = records[int(np.flatnonzero(comparisons.total == 0)[0])].key
        raise ConfigError(f"{metric}: item {silent!r} holds no matching pair beside one that does not match")
    names = sorted(set(leaves))
    number = {name: index for index, name in enumerate(names)}
    weights = {
        name: np.array([of.get(leaf, 0.0) for leaf in names], np.float64) for name, of in outputs.items()
    }
    return Trials(
        credit=comparisons.share(),
        record=np.arange(len(records)),
        ties=comparisons.ties,
        leaf=np.array([number[leaf] for leaf in leaves], np.intp),
        outputs=weights,
        notes=tuple(notes),
    )


def mean_of(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of values that are weighted means themselves, as weights of leaves."""
    total: dict[str, float] = {}
    for part in parts:
        for leaf, weight in part.items():
            total[leaf] = total.get(leaf, 0.0) + weight / len(parts)
    return total
