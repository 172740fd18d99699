"""What was observed as columns of a matrix, and features as means of columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from discffusion.calibration.observations import Numbers, Observations
from discffusion.calibration.weights import Weights

__all__ = ["Columns", "Features"]


@dataclass(frozen=True, eq=False)
class Features:
    """Differences of comparisons, the matching pair's less the other's, by which weights are found.

    Attributes:
        differences: float64 ``[c, features]``.
        prior: the same of the score without an image; None where it was not observed.
        step, layer: int ``[features]``; layer is -1 for the error. The first of those that a feature is a mean of.
        mixing: float64 ``[columns, features]``: the columns that a feature is a mean of.
    """

    differences: NDArray[np.float64]
    prior: NDArray[np.float64] | None
    step: NDArray[np.intp]
    layer: NDArray[np.intp]
    mixing: NDArray[np.float64]

    def at(self, prior_weight: float, rows: NDArray[np.generic]) -> NDArray[np.float64]:
        """Some of the comparisons, less those of the prior at its weight, ``[rows, features]``."""
        found: NDArray[np.float64] = self.differences[rows]
        if prior_weight != 0 and self.prior is not None:
            found -= prior_weight * self.prior[rows]
        return found


@dataclass(frozen=True, eq=False)
class Columns:
    """The numbers of a pair in a row: those of each step, layer and head, then the error of each step.

    Attributes:
        map: kind of the maps; None for the error alone.
        step, layer, head: int ``[columns]``; layer and head are -1 for the error.
    """

    observed: Observations
    map: str | None
    step: NDArray[np.intp]
    layer: NDArray[np.intp]
    head: NDArray[np.intp]

    @classmethod
    def of(cls, observed: Observations, map: str | None, layers: Sequence[int], error: bool) -> Columns:
        """Of one kind of map at some layers, of the error where it is wanted, or of both."""
        steps = np.arange(len(observed.levels))
        places = [(layer, head) for layer in layers for head in range(observed.heads[layer])]
        layer, head = np.array(places if map is not None else [], np.intp).reshape(-1, 2).T
        more = steps if error else steps[:0]
        return cls(
            observed,
            map,
            np.concatenate([np.repeat(steps, len(layer)), more]),
            np.concatenate([np.tile(layer, len(steps)), np.full_like(more, -1)]),
            np.concatenate([np.tile(head, len(steps)), np.full_like(more, -1)]),
        )

    def features(self, steps: bool, layers: bool, heads: bool) -> Features:
        """Means over whatever is not told apart; every layer counts the same, however many heads it has."""
        attention = self.layer >= 0
        keys = np.stack(
            [
                ~attention,
                self.step * steps,
                np.where(attention, self.layer * layers, 0),
                np.where(attention, self.head * heads, 0),
            ],
            axis=1,
        )
        _, first, feature = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        share = np.ones(len(keys))
        share[attention] = 1 / np.asarray(self.observed.heads)[self.layer[attention]]
        mixing = np.zeros((len(keys), len(first)))
        mixing[np.arange(len(keys)), feature.reshape(-1)] = share
        mixing /= mixing.sum(axis=0)
        prior = None if self.observed.prior is None else self._differences(self.observed.prior) @ mixing
        differences = self._differences(self.observed) @ mixing
        return Features(differences, prior, self.step[first], self.layer[first], mixing)

    def _differences(self, numbers: Numbers) -> NDArray[np.float64]:
        first, second = self.observed.comparisons.T
        attention = self.layer >= 0
        found = np.empty((len(first), len(attention)))
        if self.map is not None:
            pooled = numbers.attention[self.map][
                :, self.step[attention], self.layer[attention], self.head[attention]
            ]
            found[:, attention] = pooled[first].astype(np.float64) - pooled[second]
        if numbers.error is not None:
            steps = self.step[~attention]
            found[:, ~attention] = numbers.error[first][:, steps] - numbers.error[second][:, steps]
        return found

    def weights(self, vector: NDArray[np.float64], prior_weight: float) -> Weights:
        """The score that weighs columns so, `vector` ``[columns]``."""
        observed = self.observed
        attention = self.layer >= 0
        of_heads = None
        if self.map is not None:
            of_heads = np.zeros((len(observed.levels), len(observed.layers), max(observed.heads)))
            of_heads[self.step[attention], self.layer[attention], self.head[attention]] = vector[attention]
        return Weights(
            layers=observed.layers,
            heads=observed.heads,
            levels=observed.levels,
            map=self.map,
            attention=of_heads,
            error=None if attention.all() else vector[~attention],
            prior_weight=prior_weight,
        )
