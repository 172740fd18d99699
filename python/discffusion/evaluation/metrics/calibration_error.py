"""How far probabilities of a match are from what is true: calibration error and Brier score, with intervals."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from discffusion.errors import ConfigError
from discffusion.evaluation.estimate import Estimate
from discffusion.evaluation.intervals import FEW, of_groups, of_proportion, resampled, student
from discffusion.evaluation.record import Record, clusters_of

__all__ = ["BINS", "Pairs", "errors", "pairs_of", "said_of_every_pair", "summed", "tied"]

#: of equal width, of the calibration error
BINS = 10


class Pairs(NamedTuple):
    """All pairs of all items.

    Attributes:
        scores: float64 ``[n]``.
        match: bool ``[n]``.
        group: int ``[n]``, the number of the image group.
    """

    scores: NDArray[np.float64]
    match: NDArray[np.bool_]
    group: NDArray[np.intp]


def pairs_of(records: list[Record], metric: str) -> Pairs:
    """The pairs of all records, in their order.

    Raises:
        ConfigError: all of them match, or none; the message names the metric.
    """
    group = np.repeat(clusters_of(records), [record.scores.size for record in records])
    scores = np.concatenate([record.scores.ravel() for record in records])
    match = np.concatenate([record.match.ravel() for record in records])
    if match.all() or not match.any():
        raise ConfigError(f"{metric}: needs pairs that match and pairs that do not")
    return Pairs(scores, match, group)


def tied(pairs: Pairs) -> int:
    """How many matching pairs have the score of one that does not match, counted once for each such two."""
    wrong = np.sort(pairs.scores[~pairs.match])
    right = pairs.scores[pairs.match]
    return int((np.searchsorted(wrong, right, "right") - np.searchsorted(wrong, right, "left")).sum())


def errors(p: NDArray[np.float64], pairs: Pairs) -> dict[str, Estimate]:
    """Calibration error, in :data:`BINS` bins of equal width, and Brier score; lower is better.

    Args:
        p: float64 ``[n]``, the probability of each pair, 0 to 1.
        pairs: of as many pairs.
    """
    match, group, ties = pairs.match, pairs.group, tied(pairs)
    groups = int(group.max()) + 1
    part = np.minimum((p * BINS).astype(np.intp), BINS - 1)
    error = summed(group * BINS + part, p - match, groups * BINS).reshape(groups, BINS)
    squared = summed(group, (p - match) ** 2, groups).reshape(groups, 1)
    count = summed(group, np.ones(len(p)), groups).reshape(groups, 1)
    return {"ece": _ece(error, count, ties), "brier": _brier(squared, count, ties)}


def said_of_every_pair(match: NDArray[np.bool_]) -> str:
    """What a Brier score is to be compared with."""
    base = match.mean()
    return f"the share of matching pairs, {base:.4g}, said of every pair has a brier score of {base * (1 - base):.4g}"


def summed(place: NDArray[np.intp], values: NDArray[np.float64], places: int) -> NDArray[np.float64]:
    """The sum of the values at each of so many places, float64 ``[places]``."""
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
    if len(sums) == 1:  # resamples of one group are that group
        return Estimate(value, *of_proportion(value, 1)[:2], int(count.sum()), ties, "exact", 1)
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
