"""Staged elimination: candidates that fall behind after few timesteps are not scored at the rest.

The timesteps of a stage are a part of the next stage's, spread evenly over all of them, and noise belongs to the
timestep. So nothing is computed twice, and what comes through to the end has the score it would have had anyway.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion._arguments import whole_number
from discffusion.errors import ConfigError

__all__ = ["SURE", "check_stages", "eliminate", "spread"]

#: Standard errors that a candidate may be behind the best, unless shares are given. Chosen, as the way to estimate the
#: error, on the split `eval` of `shapes`: there the stages (4, 8, 12, 16, 24, 32, 40, 50) lost 15 winners in 10,000
#: with 3 and 31 with 2.5; with errors of each candidate's own differences alone they lost 74 with 3.
SURE = 3.0

#: scores ``[n, len(steps)]`` of pairs ``[n, 2]`` at steps
Evaluate = Callable[[NDArray[np.int64], list[int]], NDArray[np.float64]]


def check_stages(stages: Any, keep: Any) -> tuple[tuple[int, ...], tuple[float, ...] | None]:
    """The numbers of timesteps after each stage, rising, and the share of candidates that each but the last keeps.

    Args:
        stages: as ``(4, 12, 50)``; the last is all timesteps.
        keep: one share for all, or one for each stage but the last; above 0 and below 1. None keeps those that may yet
            turn out to be the best, see :func:`eliminate`.
    """
    if isinstance(stages, str | bytes) or not isinstance(stages, Sequence) or len(stages) == 0:
        raise ConfigError(f"stages is {stages!r}; expected numbers of timesteps, as (4, 12, 50)")
    counts = tuple(whole_number("stages", count, 1) for count in stages)
    if any(a >= b for a, b in zip(counts, counts[1:], strict=False)):
        raise ConfigError(f"stages is {stages!r}; expected rising numbers of timesteps, as (4, 12, 50)")
    if keep is None:
        return counts, None
    shares = (
        tuple(keep)
        if isinstance(keep, Sequence) and not isinstance(keep, str)
        else (keep,) * (len(counts) - 1)
    )
    if len(shares) != len(counts) - 1 or not all(_is_share(share) for share in shares):
        raise ConfigError(
            f"keep is {keep!r}; expected a share between 0 and 1, or {len(counts) - 1} of them, one for each stage but "
            "the last"
        )
    return counts, tuple(float(share) for share in shares)


def _is_share(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and 0 < value < 1


def spread(n: int, counts: Sequence[int]) -> list[list[int]]:
    """For each stage the indices of `n` timesteps that it adds, rising; `n` is the last of `counts`.

    Each stage has the middles of equal parts of the next one's timesteps.
    """
    chosen = list(range(n))
    stages = [chosen]
    for count in reversed(counts[:-1]):
        chosen = [chosen[(2 * i + 1) * len(chosen) // (2 * count)] for i in range(count)]
        stages.insert(0, chosen)
    before: list[list[int]] = [[], *stages]
    return [sorted(set(now) - set(earlier)) for earlier, now in zip(before, stages, strict=False)]


def eliminate(
    shape: tuple[int, int],
    evaluate: Evaluate,
    counts: Sequence[int],
    shares: Sequence[float] | None,
    least: int = 1,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores of all pairs of images and texts, and which of them were scored at all timesteps.

    A pair stays as long as it is among the best of its image's texts or of its text's images; where there is one text
    or one image only, the other side alone decides. A pair that was left behind gets a score below all that stayed
    longer, and pairs of one stage keep their order.

    Without shares, a pair stays while the best is not surely better: while the mean of their differences at the
    timesteps so far is at most :data:`SURE` times its standard error, as an estimate of the mean over all timesteps
    (which is exact when all are known). Noise is shared, so that a difference has little of it. After few timesteps a
    candidate's own differences tell little of how much they vary: half of the variance is that of all its rivals.

    Args:
        shape: numbers of images and texts.
        counts, shares: see :func:`check_stages`.
        least: so many of a row or column stay at least, if there are as many.
    """
    pairs = np.array([(i, j) for i in range(shape[0]) for j in range(shape[1])], dtype=np.int64)
    steps = np.full((len(pairs), counts[-1]), np.nan)
    alive = np.ones(len(pairs), dtype=bool)
    left: list[NDArray[np.int64]] = []  # pairs that each stage left behind
    seen: list[int] = []
    for stage, added in enumerate(spread(counts[-1], counts)):
        rows = np.flatnonzero(alive)
        steps[rows[:, None], np.array(added)] = evaluate(pairs[rows], added)
        if stage == len(counts) - 1:
            break
        seen.extend(added)
        share = None if shares is None else shares[stage]
        so_far = steps[:, seen].reshape(*shape, len(seen))
        stays = _best(so_far, alive.reshape(shape), share, least, counts[-1]).ravel()
        left.append(np.flatnonzero(alive & ~stays))
        alive = stays
    scores = np.full(len(pairs), np.nan)
    scores[alive] = steps[alive].mean(axis=1)
    for gone in reversed(left):
        if len(gone):
            partial = np.nanmean(steps[gone], axis=1)
            below = np.nextafter(np.nanmin(scores), -np.inf)
            scores[gone] = np.minimum(partial - max(0.0, partial.max() - below), below)
    return scores.reshape(shape), alive.reshape(shape)


def _best(
    steps: NDArray[np.float64], alive: NDArray[np.bool_], share: float | None, least: int, total: int
) -> NDArray[np.bool_]:
    """Which pairs are among the best of their row or of their column, by scores ``[I, J, steps so far]``."""
    stays = np.zeros_like(alive)
    for axis in (0, 1):
        if alive.shape[axis] == 1:
            continue  # nothing to compare with on this side
        for line, here, out in zip(
            np.moveaxis(steps, axis, 1), np.moveaxis(alive, axis, 1), np.moveaxis(stays, axis, 1), strict=True
        ):
            if here.any():
                out[here] |= _among_the_best(line[here], share, least, total)
    return stays if max(alive.shape) > 1 else alive.copy()


def _among_the_best(
    steps: NDArray[np.float64], share: float | None, least: int, total: int
) -> NDArray[np.bool_]:
    """Of scores ``[n, steps so far]``, which are among the best; ties stay together."""
    n, seen = steps.shape
    means = steps.mean(axis=1)
    wanted = min(least if share is None else max(math.ceil(share * n), least), n)
    last = np.argsort(-means, kind="stable")[wanted - 1]
    stays: NDArray[np.bool_] = means >= means[last]
    if share is None:
        if seen == 1:
            return np.ones(n, dtype=bool)  # one difference says nothing of how much they vary
        behind = steps[last] - steps
        own = behind.var(axis=1, ddof=1)
        variance = (own + own.sum() / max(n - 1, 1)) / 2  # that of the best itself is 0
        # of a sample without replacement from `total` timesteps
        stays |= behind.mean(axis=1) <= SURE * np.sqrt(variance * (1 - seen / total) / seen)
    return stays
