"""A scorer and labelled items → a calibration."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from discffusion import _layers
from discffusion._arguments import whole_number
from discffusion._identity import described
from discffusion._progress import Progress
from discffusion.calibration.calibration import Calibration
from discffusion.calibration.choice import BASELINE
from discffusion.calibration.fitting import LEAST_GROUPS, check_over, fit
from discffusion.calibration.observations import Observations
from discffusion.calibration.observing import Wanted, checked_maps, observed, pooled
from discffusion.calibration.report import report_of
from discffusion.calibration.weights import Weights

if TYPE_CHECKING:
    from discffusion.config import ScoreConfig
    from discffusion.data.item import MatchItem
    from discffusion.scorer import Scorer

__all__ = ["baseline", "calibrate", "levels_of"]

#: weights of the prior that are tried
PRIOR_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)


def calibrate(
    scorer: Scorer,
    items: Iterable[MatchItem],
    validation: Iterable[MatchItem] | None,
    over: Collection[str],
    maps: Sequence[str],
    seed: int,
    progress: Progress,
) -> Calibration:
    """See :meth:`Scorer.calibrate`."""
    check_over(over)
    seed = whole_number("seed", seed, 0)
    scorer = scorer.with_calibration(None)
    config = scorer.config
    prior = "prior" in over or config.prior is not None
    wanted = Wanted(_kinds(config, over, maps), levels_of(scorer), prior, scores=not _is_weighted_sum(config))
    found = observed(scorer, items, wanted, LEAST_GROUPS, progress)
    held_out = None if validation is None else observed(scorer, validation, wanted, LEAST_GROUPS, progress)
    own_weight = () if config.prior is None else (config.prior_weight,)
    fitted = fit(
        found.observations,
        baseline=baseline(config, found.observations),
        scores=found.scores,
        over=over,
        prior_weights=sorted({*PRIOR_WEIGHTS, *own_weight}) if "prior" in over else own_weight or (0.0,),
        seed=seed,
        validation=None if held_out is None else (held_out.observations, held_out.scores),
    )
    weights = None if fitted.model == BASELINE else fitted.weights
    return Calibration(
        weights=weights,
        config=config if weights is None else calibrated(config, weights),
        slope=fitted.slope,
        offset=fitted.offset,
        scorer=described(scorer),
        report=report_of(fitted, found, held_out, over, seed),
    )


def calibrated(config: ScoreConfig, weights: Weights) -> ScoreConfig:
    """The configuration of the score of these weights, which were fitted to numbers of a scorer with `config`."""
    prior = (
        {"prior": None}
        if weights.prior_weight == 0
        else {"prior": "null", "prior_weight": weights.prior_weight}
    )
    changed = config.replace(method="calibrated", heads="mean", noise_levels=list(weights.levels), **prior)
    if weights.map is None:
        return changed
    return changed.replace(layers=list(weights.layers), **pooled(config, weights.map))


def levels_of(scorer: Scorer) -> tuple[float, ...]:
    """The noise levels that a scorer's steps have, by which they can be named one by one."""
    total = int(scorer._info["num_train_timesteps"])
    return tuple(time / total for time in scorer._model.timesteps(scorer.config))


def baseline(config: ScoreConfig, observations: Observations) -> Weights:
    """The score that `config` says, as weights of what was observed.

    Weights of heads that differ from pair to pair (``heads="attributed"``), or are of the deltas (``"learned"``), are
    taken for equal; see :func:`_is_weighted_sum`.
    """
    steps, attention, error = len(observations.levels), None, None
    if config.method != "denoising":
        names = _layers.select(config.layers, observations.layers)
        attention = np.zeros((steps, len(observations.layers), max(observations.heads)))
        for place in map(observations.layers.index, names):
            heads = list(range(observations.heads[place]) if isinstance(config.heads, str) else config.heads)
            attention[:, place, heads] = 1 / (steps * len(names) * len(heads))
    if config.method != "attention":
        error = np.full(steps, (1.0 if config.method == "denoising" else config.denoising_weight) / steps)
    return Weights(
        layers=observations.layers,
        heads=observations.heads,
        levels=observations.levels,
        map=None if attention is None else config.map,
        attention=attention,
        error=error,
        prior_weight=0.0 if config.prior is None else config.prior_weight,
    )


def _is_weighted_sum(config: ScoreConfig) -> bool:
    """Whether the score is that of :func:`baseline`.

    It is where heads weigh the same for all pairs, and there is no prior, which is a mean over null images only where
    weights are fitted.
    """
    of_heads = config.method == "denoising" or not isinstance(config.heads, str) or config.heads == "mean"
    return of_heads and config.prior is None


def _kinds(config: ScoreConfig, over: Collection[str], maps: Sequence[str]) -> tuple[str, ...]:
    """Kinds of map to observe: that of the score before, and those that may take its place."""
    own = () if config.method == "denoising" else (config.map,)
    return tuple(dict.fromkeys([*own, *checked_maps(maps)])) if "maps" in over else own
