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
from discffusion.calibration.fitting import LEAST_GROUPS, check_over, fit
from discffusion.calibration.observations import Observations
from discffusion.calibration.observing import checked_maps, observed, pooled
from discffusion.calibration.report import report_of
from discffusion.calibration.weights import Weights

if TYPE_CHECKING:
    from discffusion.config import ScoreConfig
    from discffusion.data.item import MatchItem
    from discffusion.scorer import Scorer

__all__ = ["baseline", "calibrate", "levels_of"]


def calibrate(
    scorer: Scorer,
    items: Iterable[MatchItem],
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
    found = observed(scorer, items, _kinds(config, over, maps), levels_of(scorer), LEAST_GROUPS, progress)
    fitted = fit(
        found.observations,
        baseline=baseline(config, found.observations),
        over=over,
        prior_weights=(0.0,),
        seed=seed,
    )
    return Calibration(
        weights=fitted.weights,
        config=calibrated(config, fitted.weights),
        slope=fitted.slope,
        offset=fitted.offset,
        scorer=described(scorer),
        report=report_of(fitted, found, over, seed, _notes(config)),
    )


def calibrated(config: ScoreConfig, weights: Weights) -> ScoreConfig:
    """The configuration of the score of these weights, which were fitted to numbers of a scorer with `config`."""
    changed = config.replace(method="calibrated", heads="mean", prior=None, noise_levels=list(weights.levels))
    if weights.map is None:
        return changed
    return changed.replace(layers=list(weights.layers), **pooled(config, weights.map))


def levels_of(scorer: Scorer) -> tuple[float, ...]:
    """The noise levels that a scorer's steps have, by which they can be named one by one."""
    alphas = scorer._model.alphas_cumprod()
    total = 1000 if alphas is None else len(alphas)
    return tuple(time / total for time in scorer._model.timesteps(scorer.config))


def baseline(config: ScoreConfig, observations: Observations) -> Weights:
    """The score that `config` says, as weights of what was observed.

    Weights of heads that differ from pair to pair (``heads="attributed"``), or are of the deltas (``"learned"``), are
    taken for equal, and a prior is left out.
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
    )


def _kinds(config: ScoreConfig, over: Collection[str], maps: Sequence[str]) -> tuple[str, ...]:
    """Kinds of map to observe: that of the score before, and those that may take its place."""
    own = () if config.method == "denoising" else (config.map,)
    return tuple(dict.fromkeys([*own, *checked_maps(maps)])) if "maps" in over else own


def _notes(config: ScoreConfig) -> list[str]:
    """In what the score before is not quite that of the scorer."""
    notes = []
    if config.method != "denoising" and isinstance(config.heads, str) and config.heads != "mean":
        notes.append(f"heads={config.heads!r} was taken for the mean over heads in the score before")
    if config.prior is not None:
        notes.append(f"prior={config.prior!r} was left out of the score before, and there is none after")
    return notes
