"""Weights from labelled pairs, and how well they do on pairs that they have not seen."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion.calibration.choice import BASELINE, EVEN, HEADS, Model, choose
from discffusion.calibration.columns import Columns
from discffusion.calibration.families import Problem
from discffusion.calibration.folds import FOLDS, parts
from discffusion.calibration.observations import Observations
from discffusion.calibration.probability import Reliability, platt, reliability
from discffusion.calibration.weights import ALL, OVER, Weights
from discffusion.errors import ConfigError
from discffusion.evaluation.estimate import Estimate
from discffusion.evaluation.metrics.calibration import held_out
from discffusion.evaluation.metrics.logistic import Logistic
from discffusion.evaluation.trials import Trials, estimates

__all__ = ["LEAST_GROUPS", "OVER", "Candidate", "Fitted", "check_over", "fit"]

#: image groups that a fit needs: with fewer, a part of a part is empty
LEAST_GROUPS = 4
#: parts of the outer cross-validation of few groups, so that a fit sees nearly all of them
_PARTS_OF_FEW, _FEW = 10, 60


@dataclass(frozen=True)
class Candidate:
    """A model that was compared.

    Attributes:
        name: ``"baseline"``; ``"even"`` (one layer or the error, a run of steps, equal weights); ``"nonnegative"``
            (weights of steps and layers, none below 0); ``"layers"`` (of either sign); ``"heads"`` (those of heads).
        map: kind of the maps; None for the error alone.
        prior_weight: of the score without an image.
        ridge: of the logistic regression; None where there is none.
        accuracy: share of comparisons right while held out. The best of several is a little too good; see
            ``Fitted.after``.
        pruned: whether steps or layers were left out.
    """

    name: str
    map: str | None
    prior_weight: float
    ridge: float | None
    accuracy: float
    pruned: bool = False


@dataclass(frozen=True, eq=False)
class Fitted:
    """What was fitted, and what it is worth.

    Attributes:
        weights: of the score, fitted to all pairs, without steps and layers that have none.
        model: name of the model chosen, see :class:`Candidate`.
        before: accuracy of the baseline, with its 95 % interval between image groups.
        after: accuracy of the whole procedure, choice included, on image groups that it has not seen.
        candidates: all that were compared, the simplest first; a pruned one is the last.
        slope, offset: of the probability of a match, ``1 / (1 + exp(-(slope · score + offset)))``.
        reliability: of probabilities of pairs that neither weights nor curve have seen.
        directions: accuracies before and after of comparisons of texts of one image (``"texts"``) and of images of one
            text (``"images"``), where there are such and it is known which they are.
    """

    weights: Weights
    model: str
    before: Estimate
    after: Estimate
    candidates: tuple[Candidate, ...]
    slope: float
    offset: float
    reliability: Reliability
    directions: Mapping[str, tuple[Estimate, Estimate]]


def fit(
    observed: Observations,
    *,
    baseline: Weights,
    scores: NDArray[np.float64] | None = None,
    over: Collection[str] = OVER,
    prior_weights: Collection[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    seed: int = 0,
    validation: tuple[Observations, NDArray[np.float64] | None] | None = None,
) -> Fitted:
    """Chooses a model by cross-validation over image groups and fits it to all pairs.

    Of the models (see :class:`Candidate`) the one of the least held-out loss is taken, if it gets more of the held-out
    comparisons right than the baseline by more than a standard error; then the fewest steps and layers that lose
    nothing. So few labels, or labels that say nothing, leave the baseline as it is. What the result is worth is found
    by a second cross-validation around all of it.

    Args:
        observed: labelled pairs.
        baseline: the score as it is without labels.
        scores: float64 ``[pairs]``, what the score without labels really is, if `baseline` only comes near to it.
        over: some of :data:`ALL`: what weights may differ by. Without ``"layers"`` the layers that the baseline weighs
            count alike, without ``"maps"`` its kind of map is kept, and without ``"error"`` the error counts only if
            the baseline weighs it. Heads differ only where layers do.
        prior_weights: weights of the score without an image that are tried, if that was observed.
        seed: of the divisions; the same gives the same result.
        validation: other pairs, and their scores as `scores` has them, on which accuracies and reliability are then
            measured; by cross-validation if None.

    Raises:
        ConfigError: an option is unknown, the baseline was not observed, or there are too few image groups.
    """
    groups = observed.groups
    count = len(np.unique(groups))
    if count < LEAST_GROUPS:
        raise ConfigError(f"the pairs are of {count} image groups; a fit needs {LEAST_GROUPS} or more")
    problem = _problem(observed, baseline, over, prior_weights)
    plain = baseline.score(observed) if scores is None else scores
    margins = plain[observed.comparisons[:, 0]] - plain[observed.comparisons[:, 1]]
    compared = np.isin(observed.pair_groups, groups)
    right = np.zeros(len(groups), bool)
    of_parts = np.zeros(len(observed.labels))
    folds = FOLDS if count >= _FEW else _PARTS_OF_FEW
    for number, part in enumerate(parts(groups, (seed, 0), folds)):
        model, _ = choose(problem, margins, groups, ~part, (seed, 1 + number))
        of_part = _weights(problem, model, ~part)
        found = plain if of_part is None else of_part.score(observed)
        right[part] = found[observed.comparisons[part, 0]] > found[observed.comparisons[part, 1]]
        inside = np.isin(observed.pair_groups, groups[part])
        middle, spread = _scale(found[compared & ~inside])
        of_parts[inside] = (found[inside] - middle) / spread
    everything = np.ones(len(groups), bool)
    model, models = choose(problem, margins, groups, everything, (seed, 0))
    weights = _weights(problem, model, everything)
    # parts of the pairs were scored by different weights: curves are of scores in units of their spread
    labels = observed.labels[compared]
    slope, offset = platt(of_parts[compared], labels)
    middle, spread = _scale((plain if weights is None else weights.score(observed))[compared])
    place = np.unique(observed.pair_groups[compared], return_inverse=True)[1].reshape(-1)
    fitted = Fitted(
        weights=(baseline if weights is None else weights).pruned(),
        model=model.name,
        **_accuracies(margins > 0, right, observed),
        candidates=tuple(_candidate(each, baseline) for each in models),
        slope=slope / spread,
        offset=offset - slope * middle / spread,
        reliability=reliability(held_out(of_parts[compared], labels, place), labels),
    )
    return fitted if validation is None else _validated(fitted, baseline, *validation)


def _validated(
    fitted: Fitted, baseline: Weights, observed: Observations, scores: NDArray[np.float64] | None
) -> Fitted:
    """The same, and what it is worth by pairs that no part of the fit has seen."""
    plain = baseline.score(observed) if scores is None else scores
    found = plain if fitted.model == BASELINE else fitted.weights.score(observed)
    matching, other = observed.comparisons.T
    compared = np.isin(observed.pair_groups, observed.groups)
    probabilities = Logistic(fitted.slope, fitted.offset)(found[compared])
    return replace(
        fitted,
        **_accuracies(plain[matching] > plain[other], found[matching] > found[other], observed),
        reliability=reliability(probabilities, observed.labels[compared]),
    )


def check_over(over: Collection[str]) -> None:
    """Refuses what weights cannot differ by.

    Raises:
        ConfigError: `over` names something else than :data:`ALL`.
    """
    if isinstance(over, str) or not set(over) <= set(ALL):
        raise ConfigError(f"over is {over!r}; it takes some of: {', '.join(ALL)}")


def _problem(
    observed: Observations, baseline: Weights, over: Collection[str], prior_weights: Collection[float]
) -> Problem:
    check_over(over)
    weighed = baseline.pruned()
    kinds: list[str | None] = [weighed.map] if weighed.map is not None else []
    if "maps" in over:
        kinds = list(observed.attention)
    error = observed.error is not None and ("error" in over or weighed.error is not None)
    names = weighed.layers if "layers" not in over and weighed.layers else observed.layers
    layers = [observed.layers.index(name) for name in names if name in observed.layers]
    if error:
        kinds.append(None)
    columns = {kind: Columns.of(observed, kind, layers, error) for kind in kinds}
    if not columns:
        raise ConfigError(
            "there is nothing to weigh: neither attention nor error was observed of what over allows"
        )
    tried = tuple(prior_weights) if observed.prior is not None else (0.0,)
    if not tried:
        raise ConfigError("prior_weights is empty; it takes at least 0")
    return Problem(columns, tried, "steps" in over, "layers" in over, {"layers", "heads"} <= set(over))


def _weights(problem: Problem, model: Model, rows: NDArray[np.bool_]) -> Weights | None:
    """None for the baseline."""
    if model.setting is None:
        return None
    return problem.weights(*model.fit(problem, rows), heads=model.name == HEADS)


def _scale(scores: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and spread; the spread of equal scores is taken for 1."""
    return float(scores.mean()), float(scores.std()) or 1.0


def _accuracies(
    before: NDArray[np.bool_], after: NDArray[np.bool_], observed: Observations
) -> dict[str, Any]:
    """The accuracies of :class:`Fitted` from which comparisons came out right, bool ``[c]``."""
    groups, of_image = observed.groups, observed.of_image
    directions = {}
    if of_image is not None:
        for name, rows in (("texts", of_image), ("images", ~of_image)):
            if rows.any():
                directions[name] = tuple(_accuracy(right[rows], groups[rows]) for right in (before, after))
    return {
        "before": _accuracy(before, groups),
        "after": _accuracy(after, groups),
        "directions": directions,
    }


def _accuracy(right: NDArray[np.bool_], groups: NDArray[np.int64]) -> Estimate:
    index = np.arange(len(right))
    _, groups = np.unique(groups, return_inverse=True)
    return estimates(
        Trials.plain(right.astype(np.float64), index, np.zeros(len(right), np.intp)), groups.reshape(-1)
    )[""]


def _candidate(model: Model, baseline: Weights) -> Candidate:
    accuracy = float(model.right.mean())
    if model.setting is None:
        return Candidate(BASELINE, baseline.map, baseline.prior_weight, None, accuracy)
    ridge = None if model.name == EVEN else model.setting.ridge
    return Candidate(
        model.name, model.setting.map, model.setting.prior_weight, ridge, accuracy, bool(model.most)
    )
