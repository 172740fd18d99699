"""How well one scale of scores serves all items: the area under the ROC curve, and calibration errors."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from discffusion.errors import ConfigError
from discffusion.evaluation.estimate import Estimate
from discffusion.evaluation.intervals import SEED, logit_interval, of_proportion, student
from discffusion.evaluation.metrics.calibration_error import (
    Pairs,
    errors,
    pairs_of,
    said_of_every_pair,
    summed,
    tied,
)
from discffusion.evaluation.metrics.logistic import fit
from discffusion.evaluation.metrics.metric import Metric, Result
from discffusion.evaluation.record import Record

__all__ = ["METRIC", "held_out"]

#: parts of the image groups; each is judged by a curve fitted to the others
_FOLDS = 5


def measure(records: list[Record]) -> Result:
    """All pairs of all items at once, where other metrics compare within an item.

    ``auroc`` is the probability that a matching pair scores strictly above one that does not match, of any item.
    ``ece`` and ``brier`` judge probabilities that a logistic curve makes of scores; each image group is judged by a
    curve fitted to others. For these two lower is better.
    """
    pairs = pairs_of(records, "calibration")
    scores, match, group = pairs
    if not np.isfinite(scores).all():
        raise ConfigError("calibration: a score is infinite, which cannot be calibrated")
    if group.max() == 0:
        raise ConfigError(
            "calibration: all items share one image group; the curve needs others to be fitted to"
        )
    curve = fit(scores, match)
    return Result(
        {"auroc": _auroc(pairs), **errors(held_out(scores, match, group), pairs)},
        (
            f"calibration: p(match) = 1 / (1 + exp(-({curve.slope:.6g} · score {curve.offset:+.6g}))) fits all pairs; "
            "ece and brier are of curves fitted to other image groups, lower is better",
            f"calibration: {said_of_every_pair(match)}",
        ),
    )


def _auroc(pairs: Pairs) -> Estimate:
    """With the variance between image groups of each pair's own share (DeLong's components, summed by group)."""
    scores, match, group = pairs
    right, wrong = np.sort(scores[match]), np.sort(scores[~match])
    below = np.searchsorted(wrong, scores[match], "left")
    above = len(right) - np.searchsorted(right, scores[~match], "right")
    value = float(below.sum() / (len(right) * len(wrong)))
    share = np.empty(len(scores))
    share[match] = (below / len(wrong) - value) / len(right)
    share[~match] = (above / len(right) - value) / len(wrong)
    groups = int(group.max()) + 1
    of_group = summed(group, share, groups)
    error = math.sqrt(groups / (groups - 1) * float((of_group**2).sum()))
    interval = logit_interval(value, error, student(groups - 1))
    low, high, method = (*interval, "delong") if interval else of_proportion(value, groups)
    return Estimate(value, low, high, len(right), tied(pairs), method, groups)


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


METRIC = Metric(
    "calibration",
    "area under the ROC curve over all pairs of all items (strict), calibration error and Brier score",
    direct=measure,
    by_group=False,
)
