"""Kinds of model, each of which is fitted to some of the comparisons."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from discffusion.calibration.columns import Columns, Features
from discffusion.calibration.logistic import minimise, rotated
from discffusion.calibration.weights import Weights

__all__ = ["RIDGES", "ROUGH", "Problem", "Setting", "even", "regressions"]

#: the greatest first; of features whose squares sum to one for each source
RIDGES = tuple(4.0**-power for power in range(3, 10))
#: of the gradient, to which models are fitted while they are compared
ROUGH = 1e-4


@dataclass(frozen=True)
class Setting:
    """What is chosen before weights are fitted.

    Attributes:
        map: kind of the maps; None for the error alone.
        prior_weight: of the score without an image.
        ridge: of the logistic regression; one of :data:`RIDGES`.
    """

    map: str | None
    prior_weight: float
    ridge: float = RIDGES[2]


@dataclass(frozen=True, eq=False)
class Problem:
    """What models are fitted to.

    Attributes:
        columns: by kind of map, what was observed; None for the error alone.
        prior_weights: weights of the prior that are tried.
        steps, layers, heads: whether those are told apart.
    """

    columns: dict[str | None, Columns]
    prior_weights: tuple[float, ...]
    steps: bool
    layers: bool
    heads: bool
    _features: dict[tuple[str | None, bool], Features] = field(default_factory=dict)

    def features(self, map: str | None, heads: bool) -> Features:
        """Features of a kind of map, by head or as means over heads."""
        key = map, heads
        if key not in self._features:
            self._features[key] = self.columns[map].features(self.steps, self.layers, heads)
        return self._features[key]

    def weights(self, setting: Setting, w: NDArray[np.float64], heads: bool) -> Weights:
        """The score that weighs features so, `w` ``[features]``."""
        vector = self.features(setting.map, heads).mixing @ w
        return self.columns[setting.map].weights(vector, setting.prior_weight)


def regressions(
    features: Features,
    prior_weight: float,
    rows: NDArray[np.bool_],
    ridges: tuple[float, ...],
    *,
    nonnegative: bool,
    kept: NDArray[np.bool_] | None = None,
    tolerance: float = ROUGH,
) -> NDArray[np.float64]:
    """Weights by logistic regression at each ridge, float64 ``[ridges, features]``.

    Features are divided by the spread of their layer's differences: heads and steps that hardly differ between pairs
    then weigh less than by a spread of their own, which measured better with few labels. Attention and error each have
    squares that sum to one, so that a ridge means the same however many features there are, and the few of the error
    are not lost among the many of attention.

    Args:
        rows: bool ``[c]``, comparisons to fit to.
        ridges: the greatest first; each fit starts from the one before.
        nonnegative: whether weights below 0 are ruled out.
        kept: bool ``[features]``, which may have weight; None for all.
        tolerance: see :func:`minimise`.
    """
    x, layer = features.at(prior_weight, rows), features.layer
    if kept is not None:
        x, layer = x[:, kept], layer[kept]
    scale = _scale(x, layer)
    x *= scale
    basis = None
    if x.shape[1] > x.shape[0] and not nonnegative:
        x, basis = rotated(x)
    found = np.zeros((len(ridges), len(features.layer)))
    w = None
    for place, ridge in enumerate(ridges):
        w = minimise(x, ridge, w, nonnegative=nonnegative, tolerance=tolerance)
        of_features = w if basis is None else w @ basis
        found[place, slice(None) if kept is None else kept] = of_features * scale
    return found


def _scale(x: NDArray[np.float64], layer: NDArray[np.intp]) -> NDArray[np.float64]:
    """What features are multiplied by, ``[features]``.

    Which pair of a comparison comes first is a convention, so the spread is that around 0.
    """
    _, place = np.unique(layer, return_inverse=True)
    place = place.reshape(-1)
    spread = np.sqrt(np.bincount(place, (x**2).mean(axis=0)) / np.bincount(place))
    spread[spread == 0] = 1.0
    scale = 1 / spread[place]
    for source in (layer >= 0, layer < 0):
        scale[source] /= np.sqrt(max(1, source.sum()))
    return scale


def even(problem: Problem, rows: NDArray[np.bool_]) -> tuple[Setting, NDArray[np.float64]]:
    """The single layer, or the error, and the run of steps whose plain mean separates the comparisons best.

    Best is the most comparisons right, then the greatest mean difference in units of its spread.

    Returns:
        The kind of map and the weight of the prior, and weights ``[features]`` of means over heads, the slope of a
        logistic regression on that mean.
    """
    best = (-1.0, 0.0)
    found: tuple[Setting, NDArray[np.float64], NDArray[np.float64]] | None = None
    for kind in problem.columns:
        features = problem.features(kind, False)
        attention = features.layer[features.layer >= 0]
        for prior_weight in problem.prior_weights:
            x = features.at(prior_weight, rows)
            for layer in np.unique(features.layer if kind is None else attention):
                own = np.flatnonzero(features.layer == layer)
                sums = np.concatenate([np.zeros((len(x), 1)), np.cumsum(x[:, own], axis=1)], axis=1)
                start, stop = np.triu_indices(len(own) + 1, 1)
                means = (sums[:, stop] - sums[:, start]) / (stop - start)
                right = (means > 0).mean(axis=0)
                clear = means.mean(axis=0) / np.maximum(np.sqrt((means**2).mean(axis=0)), 1e-300)
                place = int(np.lexsort((clear, right))[-1])
                if (right[place], clear[place]) > best:
                    best = (float(right[place]), float(clear[place]))
                    share = np.zeros(len(features.layer))
                    share[own[start[place] : stop[place]]] = 1 / (stop[place] - start[place])
                    found = Setting(kind, prior_weight), share, means[:, place].copy()
    assert found is not None
    setting, share, mean = found
    spread = float(np.sqrt((mean**2).mean())) or 1.0
    slope = minimise(mean[:, None] / spread, RIDGES[-1], nonnegative=True)
    return setting, share * slope[0] / spread
