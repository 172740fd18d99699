"""How well one scale of scores serves all items: the area under the ROC curve, and calibration errors."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from discffusion.errors import ConfigError
from discffusion.evaluation.estimate import Estimate
from discffusion.evaluation.intervals import (
    FEW,
    SEED,
    logit_interval,
    of_groups,
    of_proportion,
    resampled,
    student,
)
from discffusion.evaluation.metrics.logistic import fit
from discffusion.evaluation.metrics.metric import Metric, Result
from discffusion.evaluation.record import Record, clusters_of

__all__ = ["BINS", "METRIC", "held_out"]

#: of equal width, of the calibration error
BINS = 10
#: parts of the image groups; each is judged by a curve fitted to the others
_FOLDS = 5


def measure(records: list[Record]) -> Result:
    """All pairs of all items at once, where other metrics compare within an item.

    ``auroc`` is the probability that a matching pair scores strictly above one that does not match, of any item.
    ``ece`` and ``brier`` judge probabilities that a logistic curve makes of scores; each image group is judged by a
    curve fitted to others. For these two lower is better.
    """
    cluster = clusters_of(records)
    group = np.repeat(cluster, [record.scores.size for record in records])
    scores = np.concatenate([record.scores.ravel() for record in records])
    match = np.concatenate([record.match.ravel() for record in records])
    if match.all() or not match.any():
        raise ConfigError("calibration: needs pairs that match and pairs that do not")
    if not np.isfinite(scores).all():
        raise ConfigError("calibration: a score is infinite, which cannot be calibrated")
    if cluster.max() == 0:
        raise ConfigError(
            "calibration: all items share one image group; the curve needs others to be fitted to"
        )
    auroc = _auroc(scores, match, group)
    p = held_out(scores, match, group)
    groups = int(group.max()) + 1
    part = np.minimum((p * BINS).astype(np.intp), BINS - 1)
    error = _summed(group * BINS + part, p - match, groups * BINS).reshape(groups, BINS)
    squared = _summed(group, (p - match) ** 2, groups).reshape(groups, 1)
    count = _summed(group, np.ones(len(p)), groups).reshape(groups, 1)
    values = {
        "auroc": auroc,
        "ece": _ece(error, count, auroc.ties),
        "brier": _brier(squared, count, auroc.ties),
    }
    curve, base = fit(scores, match), match.mean()
    return Result(
        values,
        (
            f"calibration: p(match) = 1 / (1 + exp(-({curve.slope:.6g} · score {curve.offset:+.6g}))) fits all pairs; "
            "ece and brier are of curves fitted to other image groups, lower is better",
            f"calibration: the share of matching pairs, {base:.4g}, said of every pair has a brier score of "
            f"{base * (1 - base):.4g}",
        ),
    )


def _auroc(scores: NDArray[np.float64], match: NDArray[np.bool_], group: NDArray[np.intp]) -> Estimate:
    """With the variance between image groups of each pair's own share (DeLong's components, summed by group)."""
    right, wrong = np.sort(scores[match]), np.sort(scores[~match])
    below = np.searchsorted(wrong, scores[match], "left")
    upto = np.searchsorted(wrong, scores[match], "right")
    above = len(right) - np.searchsorted(right, scores[~match], "right")
    value = float(below.sum() / (len(right) * len(wrong)))
    share = np.empty(len(scores))
    share[match] = (below / len(wrong) - value) / len(right)
    share[~match] = (above / len(right) - value) / len(wrong)
    groups = int(group.max()) + 1
    of_group = _summed(group, share, groups)
    error = math.sqrt(groups / (groups - 1) * float((of_group**2).sum()))
    interval = logit_interval(value, error, student(groups - 1))
    low, high, method = (*interval, "delong") if interval else of_proportion(value, groups)
    ties = int((upto - below).sum())
    return Estimate(value, low, high, len(right), ties, method, groups)


def held_out(
    scores: NDArray[np.float64], match: NDArray[np.bool_], group: NDArray[np.intp]
) -> NDArray[np.float64]:
    """The probability of each pair by a curve that has not seen its image group."""
    groups = int(group.max()) + 1
    folds = min(_FOLDS, groups)
    fold = (np.random.default_rng(SEED).permutation(groups) % folds)[group]
    p = np.empty(len(scores))
    for number in range(folds):
        seen = fold != number
        p[~seen] = fit(scores[seen], match[seen])(scores[~seen])
    return p


def _summed(place: NDArray[np.intp], values: NDArray[np.float64], places: int) -> NDArray[np.float64]:
    return np.bincount(place, values, places).astype(np.float64)


def _brier(squared: NDArray[np.float64], count: NDArray[np.float64], ties: int) -> Estimate:
    sums = np.concatenate([squared, count], axis=1)
    value = float(_ratio(sums.sum(axis=0)))
    low, high, method = of_groups(sums, _ratio) or of_proportion(value, len(sums))
    return Estimate(value, min(low, value), max(high, value), int(count.sum()), ties, method, len(sums))


def _ece(error: NDArray[np.float64], count: NDArray[np.float64], ties: int) -> Estimate:
    """The interval allows for the noise of all bins together, which covers at least 95 %.

    Noise only ever adds to a sum of absolute values, so resampled ones all lie too high to be an interval.
    """
    sums = np.concatenate([error, count], axis=1)
    of_bins = _shares(sums.sum(axis=0))
    value = float(np.abs(of_bins).sum())
    noise = np.concatenate([np.abs(_shares(part) - of_bins).sum(axis=-1) for part in resampled(sums)])
    reach = float(np.quantile(noise, 0.95)) * _small_sample(len(sums))
    ends = max(0.0, value - reach), min(1.0, value + reach)
    return Estimate(value, *ends, int(count.sum()), ties, "bootstrap", len(sums))


def _small_sample(groups: int) -> float:
    """How much further noise reaches than resamples of few groups, which are too much alike, say."""
    return math.sqrt(groups / (groups - 1)) * student(groups - 1) / student(1 << 20) if groups < FEW else 1.0


def _shares(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums by their last, the number of pairs."""
    return sums[..., :-1] / sums[..., -1:]


def _ratio(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return _shares(sums)[..., 0]


METRIC = Metric(
    "calibration",
    "area under the ROC curve over all pairs of all items (strict), calibration error and Brier score",
    direct=measure,
    by_group=False,
)
