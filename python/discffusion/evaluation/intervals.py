"""95 % intervals: of proportions, and of everything else that sums over image groups give.

With :data:`FEW` groups or more, these are Wilson's interval for proportions and the bootstrap over groups for the rest.
Resamples of fewer groups hardly leave the range of the data, and hold the truth in as little as two thirds of all
samples; with fewer groups proportions have Clopper and Pearson's exact interval, and the rest has Student's t.
``tests/benchmarks/coverage.py`` measures how often they hold the truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FEW",
    "RESAMPLES",
    "SEED",
    "Statistic",
    "bootstrap",
    "exact",
    "few_groups",
    "logit_interval",
    "of_groups",
    "of_proportion",
    "resampled",
    "student",
    "wilson",
]

#: below so many image groups, or trials, intervals are those of small samples
FEW = 30

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


def exact(value: float, n: int) -> tuple[float, float]:
    """Clopper and Pearson's 95 % interval of a proportion `value` seen in `n` independent trials.

    It holds the truth in 95 % of samples or more, whatever the truth is. A `value` that is not a whole number of trials
    counts as fewer for the lower end and as more for the upper end.
    """
    fewer, more = math.floor(value * n + 1e-9), math.ceil(value * n - 1e-9)
    return (1 - _highest(n - fewer, n) if fewer > 0 else 0.0), (_highest(more, n) if more < n else 1.0)


@lru_cache(maxsize=1024)
def _highest(k: int, n: int) -> float:
    """The share at which `k` or fewer of `n` trials come out in 2.5 % of samples, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        p = (low + high) / 2
        at_most = sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))
        low, high = (p, high) if at_most > 0.025 else (low, p)
    return high


def of_proportion(value: float, n: int) -> tuple[float, float, str]:
    """The 95 % interval of a share of `n` independent 0/1 trials, and what it is called."""
    return (*exact(value, n), "exact") if n < FEW else (*wilson(value, n), "wilson")


@lru_cache(maxsize=1024)
def student(df: int) -> float:
    """The 97.5 % quantile of Student's t with `df` degrees of freedom.

    With ``t = sqrt(df) tan(a)`` the density is proportional to ``cos(a) ** (df - 1)``; Newton's method on its integral,
    which Gauss and Legendre's rule gives to the last digits.
    """
    if df > 10_000:
        return _Z
    nodes, weights = np.polynomial.legendre.leggauss(64)
    whole = math.exp(math.lgamma(df / 2) - math.lgamma((df + 1) / 2)) * math.sqrt(math.pi) / 2
    a = math.atan(_Z / math.sqrt(df))
    for _ in range(50):
        inside = 0.5 * a * float(weights @ np.cos(0.5 * a * (nodes + 1)) ** (df - 1)) / whole
        step = (0.95 - inside) * whole / math.cos(a) ** (df - 1)
        a += step
        if abs(step) < 1e-15:
            break
    return math.sqrt(df) * math.tan(a)


def of_groups(
    sums: NDArray[np.float64], statistic: Statistic, ends: tuple[float, float] | None = (0.0, 1.0)
) -> tuple[float, float, str] | None:
    """The 95 % interval of a statistic of sums over image groups, and what it is called.

    Args:
        sums: float64 ``[n_groups, k]``, what each group adds.
        statistic: from sums ``[..., k]`` to values ``[...]``.
        ends: the least and the greatest value there can be; None if there are none.

    Returns:
        None where all groups agree and say nothing of others.
    """
    if len(sums) < FEW:
        few = few_groups(sums, statistic, ends)
        return None if few is None else (*few, "t")
    drawn = bootstrap(sums, statistic)
    return None if drawn is None else (*drawn, "bootstrap")


def few_groups(
    sums: NDArray[np.float64], statistic: Statistic, ends: tuple[float, float] | None = (0.0, 1.0)
) -> tuple[float, float] | None:
    """Student's t interval with the standard error of the jackknife, which leaves out one group at a time.

    Between two `ends` it is symmetric in log odds, so that it stays between them. Arguments as of :func:`of_groups`.
    """
    groups = len(sums)
    if groups < 2:
        return None
    total = sums.sum(axis=0)
    value, without = float(statistic(total)), statistic(total - sums)
    error = math.sqrt((groups - 1) / groups * float(((without - without.mean()) ** 2).sum()))
    if error < 1e-12:
        return None
    t = student(groups - 1)
    if ends is None:
        return value - t * error, value + t * error
    least, reach = ends[0], ends[1] - ends[0]
    share = logit_interval((value - least) / reach, error / reach, t)
    return None if share is None else (least + reach * share[0], least + reach * share[1])


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


def logit_interval(value: float, error: float, z: float = _Z) -> tuple[float, float] | None:
    """The 95 % interval of a share from its standard error, symmetric in log odds, so that it stays within 0 and 1.

    `z` is how many standard errors it reaches, by the normal distribution or by Student's. None where the share is 0 or
    1, or has no error to go by.
    """
    if not 0 < value < 1 or error <= 0:
        return None
    middle, half = math.log(value / (1 - value)), z * error / (value * (1 - value))
    return _share(middle - half), _share(middle + half)


def _share(log_odds: float) -> float:
    return 0.5 * (1 + math.tanh(0.5 * log_odds))
