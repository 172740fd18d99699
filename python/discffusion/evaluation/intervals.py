"""95 % intervals: Wilson's for proportions, the bootstrap over image groups for everything else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["RESAMPLES", "SEED", "Statistic", "bootstrap", "logit_interval", "resampled", "wilson"]

#: how often image groups are resampled
RESAMPLES = 2000
#: of the resampling, so that the same scores always give the same interval
SEED = 20231129

#: sums over image groups ``[..., k]`` -> values ``[...]``
Statistic: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]

_NORMAL = NormalDist()
_Z = _NORMAL.inv_cdf(0.975)
#: numbers held at a time while resampling, so that they stay in the cache
_AT_ONCE = 1 << 18


def wilson(value: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion `value` seen in `n` independent trials.

    At 0 and 1 it keeps a width, where the bootstrap has none.
    """
    centre = value + _Z**2 / (2 * n)
    half = _Z * math.sqrt(value * (1 - value) / n + _Z**2 / (4 * n**2))
    scale = 1 + _Z**2 / n
    # rounding must not leave the end that is exact
    low = (centre - half) / scale if value > 0 else 0.0
    return max(0.0, low), min(1.0, (centre + half) / scale) if value < 1 else 1.0


def resampled(sums: NDArray[np.float64], resamples: int = RESAMPLES) -> Iterator[NDArray[np.float64]]:
    """Sums over as many image groups as there are, drawn with replacement: pieces of ``[resamples, k]``.

    Args:
        sums: float64 ``[n_groups, k]``.
        resamples: how often to draw.
    """
    rng = np.random.default_rng(SEED)
    groups = len(sums)
    at_once = max(32, _AT_ONCE // groups)
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn = rng.integers(groups, size=(rows, groups)) + groups * np.arange(rows)[:, None]
        times = np.bincount(drawn.reshape(-1), minlength=rows * groups).reshape(rows, groups)
        yield times.astype(np.float64) @ sums


def bootstrap(
    sums: NDArray[np.float64], statistic: Statistic, resamples: int = RESAMPLES
) -> tuple[float, float] | None:
    """The 95 % bootstrap interval (bias-corrected and accelerated) of a statistic of sums over image groups.

    Args:
        sums: float64 ``[n_groups, k]``, what each group adds.
        statistic: from sums ``[..., k]`` to values ``[...]``.
        resamples: how often to draw.

    Returns:
        Both ends, or None where all resamples agree and the bootstrap says nothing.
    """
    total = sums.sum(axis=0)
    value = float(statistic(total))
    drawn = np.sort(np.concatenate([statistic(part) for part in resampled(sums, resamples)]))
    if drawn[-1] - drawn[0] < 1e-12:
        return None
    # sums in another order differ in the last bits; such values are equal
    below = (np.count_nonzero(drawn < value - 1e-12) + np.count_nonzero(drawn < value + 1e-12)) / 2
    share = below / resamples
    ends = (0.025, 0.975)
    if 0 < share < 1:
        bias = _NORMAL.inv_cdf(share)
        skewness = _skewness(sums, statistic)
        ends = (_adjusted(-_Z, bias, skewness), _adjusted(_Z, bias, skewness))
    low, high = np.quantile(drawn, ends)
    return float(low), float(high)


def _adjusted(z: float, bias: float, skewness: float) -> float:
    moved = bias + z
    return _NORMAL.cdf(bias + moved / (1 - skewness * moved))


def _skewness(sums: NDArray[np.float64], statistic: Statistic) -> float:
    """The acceleration: how skewed the statistic is when one group at a time is left out."""
    if len(sums) < 2:
        return 0.0
    without = statistic(sums.sum(axis=0) - sums)
    lost = without.mean() - without
    spread = float((lost**2).sum()) ** 1.5
    return float((lost**3).sum()) / (6 * spread) if spread > 0 else 0.0


def logit_interval(value: float, error: float) -> tuple[float, float] | None:
    """The 95 % interval of a share from its standard error, symmetric in log odds, so that it stays within 0 and 1.

    None where the share is 0 or 1, or has no error to go by.
    """
    if not 0 < value < 1 or error <= 0:
        return None
    middle, half = math.log(value / (1 - value)), _Z * error / (value * (1 - value))
    return _share(middle - half), _share(middle + half)


def _share(log_odds: float) -> float:
    return 0.5 * (1 + math.tanh(0.5 * log_odds))
