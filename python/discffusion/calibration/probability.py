"""From a score to the probability of a match, and how well such probabilities are calibrated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from discffusion.errors import ConfigError
from discffusion.evaluation.metrics.logistic import fit

__all__ = ["Reliability", "platt", "reliability"]

#: slope in units of the scores' spread where the scores say nothing, or the wrong: their order is kept
_LEAST = 1e-6


def platt(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and offset of the probability ``1 / (1 + exp(-(slope · score + offset)))`` of a match (Platt, 1999).

    The likelihood is greatest for targets drawn in from 0 and 1, among slopes above 0: a greater score never is a
    smaller probability. Scores should be of pairs that their weights were not fitted to.

    Args:
        scores: finite float64 ``[pairs]``.
        labels: bool ``[pairs]``, which match.
    """
    curve = fit(scores, labels)
    least = _LEAST / max(float(scores.std()), 1e-300)
    if curve.slope >= least:
        return curve.slope, curve.offset
    level = fit(np.zeros(len(scores)), labels).offset
    return least, level - least * float(scores.mean())


@dataclass(frozen=True, eq=False)
class Reliability:
    """How often what has a probability comes true, in bins of probability.

    Attributes:
        edges: float64 ``[bins + 1]``, 0 to 1.
        count: int64 ``[bins]``, pairs in each; a bin holds its lower edge, the last also its upper.
        predicted, observed: float64 ``[bins]``, mean probability and share of matches; NaN in an empty bin.
        ece: expected calibration error, the mean over pairs of how far the two lie apart in their bin (Guo et al.,
            2017).
        brier: mean squared difference of probability and label.
    """

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    ece: float
    brier: float


def reliability(
    probabilities: NDArray[np.float64], labels: NDArray[np.bool_], bins: int = 10, *, equal_mass: bool = False
) -> Reliability:
    """The table of a reliability diagram.

    Args:
        probabilities: float64 ``[pairs]``, 0 to 1.
        labels: bool ``[pairs]``, which match.
        bins: 1 or more.
        equal_mass: whether bins hold equally many pairs; they are equally wide otherwise. Equal probabilities stay
            together, so there may be fewer bins.

    Raises:
        ConfigError: there are no pairs, or a probability is not one.
    """
    if len(probabilities) == 0 or not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ConfigError("reliability needs probabilities, from 0 to 1")
    edges = np.linspace(0, 1, bins + 1)
    if equal_mass:
        edges = np.unique([0.0, *np.quantile(probabilities, edges[1:-1]), 1.0])
    part = np.clip(np.searchsorted(edges, probabilities, "right") - 1, 0, len(edges) - 2)
    count = np.bincount(part, minlength=len(edges) - 1)
    with np.errstate(invalid="ignore"):
        predicted = np.bincount(part, probabilities, len(count)) / count
        observed = np.bincount(part, labels, len(count)) / count
    apart = np.abs(predicted - observed)[count > 0]
    ece = float(apart @ count[count > 0]) / len(probabilities)
    brier = float(((probabilities - labels) ** 2).mean())
    return Reliability(edges, count.astype(np.int64), predicted, observed, ece, brier)
