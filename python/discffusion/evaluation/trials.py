"""Trials, the one-by-one outcomes that a metric is a mean of, and means of their means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from discffusion.evaluation.estimate import Estimate
from discffusion.evaluation.intervals import Statistic, of_groups, of_proportion

__all__ = ["Trials", "estimates", "flag", "weighted"]


@dataclass(frozen=True)
class Trials:
    """What a metric counts. Every trial belongs to a record and to a leaf; a value is a weighted mean of leaf means.

    Attributes:
        credit: float64 ``[n]``, what each trial earned: 0 to 1, or any number where `ends` is None.
        record: int ``[n]``, the index of its record.
        ties: int ``[n]``, comparisons in it with equal scores.
        leaf: int ``[n]``, the leaf it counts for.
        outputs: name of a value -> float64 ``[n_leaves]``, the weights of the leaf means; each has a trial.
        notes: sentences that belong beside the values.
        ends: the least and the greatest value there can be; None if there are none.
    """

    credit: NDArray[np.float64]
    record: NDArray[np.intp]
    ties: NDArray[np.intp]
    leaf: NDArray[np.intp]
    outputs: Mapping[str, NDArray[np.float64]]
    notes: tuple[str, ...] = field(default=())
    ends: tuple[float, float] | None = (0.0, 1.0)

    @classmethod
    def plain(
        cls, credit: NDArray[np.float64], record: NDArray[np.intp], ties: NDArray[np.intp], *notes: str
    ) -> Trials:
        """One value without a name of its own: the mean of all trials."""
        leaf = np.zeros(len(credit), np.intp)
        return cls(credit, record, ties, leaf, {"": np.ones(1)}, tuple(note for note in notes if note))

    @classmethod
    def by_name(cls, parts: Mapping[str, Trials]) -> Trials:
        """Several plain metrics of the same records, each with its name."""
        of = list(parts.values())
        return cls(
            credit=np.concatenate([part.credit for part in of]),
            record=np.concatenate([part.record for part in of]),
            ties=np.concatenate([part.ties for part in of]),
            leaf=np.repeat(np.arange(len(of)), [len(part.credit) for part in of]),
            outputs=dict(zip(parts, np.eye(len(of)), strict=True)),
            notes=tuple(dict.fromkeys(note for part in of for note in part.notes)),
        )

    def of_output(self, name: str) -> NDArray[np.bool_]:
        """Which trials the value `name` depends on: bool ``[n]``."""
        kept: NDArray[np.bool_] = (self.outputs[name] != 0)[self.leaf]
        return kept


def flag(values: NDArray[np.float64]) -> bool:
    """Whether all are 0 or 1."""
    return bool(((values == 0) | (values == 1)).all())


def weighted(weights: NDArray[np.float64]) -> Statistic:
    """The weighted mean of leaf means, of sums ``[..., 2 n_leaves]``: each leaf's credit, then each leaf's trials.

    A leaf without a trial is left out of the mean.
    """

    def statistic(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        credit, count = np.split(sums, 2, axis=-1)
        present = weights * (count > 0)
        means = credit / np.maximum(count, 1)
        value: NDArray[np.float64] = (present * means).sum(axis=-1) / present.sum(axis=-1)
        return value

    return statistic


def cluster_sums(
    credit: NDArray[np.float64], leaf: NDArray[np.intp], cluster: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Sums of each cluster ``[n_clusters, 2 n_leaves]``, leaves and clusters renumbered to those that occur."""
    leaves, leaf = np.unique(leaf, return_inverse=True)
    clusters, cluster = np.unique(cluster, return_inverse=True)
    shape = (len(clusters), len(leaves))
    place = np.ravel_multi_index((cluster.reshape(-1), leaf.reshape(-1)), shape)
    size = shape[0] * shape[1]
    total = np.bincount(place, credit, size).reshape(shape)
    count = np.bincount(place, minlength=size).reshape(shape)
    return np.concatenate([total, count], axis=1)


def estimates(trials: Trials, clusters: NDArray[np.intp], unit: str = "share") -> dict[str, Estimate]:
    """Every value with its interval.

    Args:
        trials: what was counted.
        clusters: int ``[n_records]``, the image group of each record.
        unit: of the values.
    """
    by_name = {}
    for name, weights in trials.outputs.items():
        kept = trials.of_output(name)
        credit, cluster = trials.credit[kept], clusters[trials.record[kept]]
        sums = cluster_sums(credit, trials.leaf[kept], cluster)
        statistic = weighted(weights[weights != 0])
        value = float(statistic(sums.sum(axis=0)))
        groups = len(sums)
        proportion = trials.ends is not None and sums.shape[1] == 2 and len(credit) == groups and flag(credit)
        drawn = None if proportion else of_groups(sums, statistic, trials.ends)
        if drawn is None and trials.ends is None:  # one group, or all alike: there is nothing to go by
            drawn = (value, value, "none")
        low, high, method = drawn or of_proportion(value, groups)
        ties = int(trials.ties[kept].sum())
        low, high = min(low, value), max(high, value)
        by_name[name] = Estimate(value, low, high, len(credit), ties, method, groups, unit)
    return by_name
