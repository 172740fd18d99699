"""The choice among models by cross-validation: the likeliest, if it beats the baseline clearly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from discffusion.calibration.columns import Features
from discffusion.calibration.families import RIDGES, ROUGH, Problem, Setting, even, regressions
from discffusion.calibration.folds import Split, splits
from discffusion.calibration.logistic import TOLERANCE, losses
from discffusion.evaluation.intervals import student

__all__ = ["BASELINE", "EVEN", "HEADS", "Model", "choose"]

BASELINE, EVEN, NONNEGATIVE, LAYERS, HEADS = "baseline", "even", "nonnegative", "layers", "heads"
#: standard errors by which a model has to be better than the baseline
CLEARLY = 1.0
#: shares of the steps, and of the layers, that are tried in place of all
_SHARES = (0.25, 0.5)

#: from comparisons to fit to, to settings and weights of features under each
Fit = Callable[[NDArray[np.bool_]], Sequence[tuple[Setting, NDArray[np.float64]]]]


@dataclass(frozen=True, eq=False)
class Model:
    """A kind of model and what was chosen for it.

    Attributes:
        name: see :class:`discffusion.calibration.fitting.Candidate`.
        right: float64 ``[n]``: of each comparison, how often it came out right while it was held out, 0 to 1.
        loss: mean held-out loss, in nats; infinite for the baseline, whose score has no scale.
        setting: kind of map, weight of the prior, ridge; None of the baseline.
        most: how many steps (``"step"``) and layers (``"layer"``) may have weight, where not all may: those that have
            the most when all have.
    """

    name: str
    right: NDArray[np.float64]
    loss: float = np.inf
    setting: Setting | None = None
    most: Mapping[str, int] = field(default_factory=dict)

    def fit(
        self, problem: Problem, rows: NDArray[np.bool_], tolerance: float = TOLERANCE
    ) -> tuple[Setting, NDArray[np.float64]]:
        """Weights of features by the comparisons `rows`. A model that is ``"even"`` is chosen anew by them."""
        if self.name == EVEN:
            return even(problem, rows)
        assert self.setting is not None
        ridge = (self.setting.ridge,)
        if not self.most:
            return _path(problem, self.name, self.setting, rows, ridge, tolerance=tolerance)[0]
        ((_, w),) = _path(problem, self.name, self.setting, rows, ridge)
        features = problem.features(self.setting.map, self.name == HEADS)
        kept = _weightiest(features, self.setting, rows, w, self.most)
        return _path(problem, self.name, self.setting, rows, ridge, kept, tolerance)[0]

    def judged(self, margins: NDArray[np.float64]) -> Model:
        """The same with held-out margins ``[divisions, n]``."""
        return replace(self, right=(margins > 0).mean(axis=0), loss=float(losses(margins).mean()))


def choose(
    problem: Problem,
    baseline: NDArray[np.float64],
    groups: NDArray[np.int64],
    rows: NDArray[np.bool_],
    seed: tuple[int, ...],
) -> tuple[Model, list[Model]]:
    """The model for some of the comparisons, and all that were compared, the simplest first.

    Args:
        baseline: float64 ``[c]``, by how much the baseline's score of the matching pair is the greater.
        groups: int ``[c]``, image group of each comparison.
        rows: bool ``[c]``, the comparisons that may be looked at.
        seed: of the divisions into parts.
    """
    divided = splits(groups, rows, seed)
    unchanged = Model(BASELINE, (baseline[rows] > 0).astype(np.float64))
    simple = Model(EVEN, unchanged.right, setting=even(problem, rows)[0])
    models = [_held_out(problem, divided, False, [simple], lambda train: [even(problem, train)])[0]]
    # the prior's weight is chosen for each map by means over heads: to try all again takes long and gains little
    settings = [
        _setting(problem, divided, LAYERS, [Setting(kind, weight) for weight in problem.prior_weights])
        for kind in problem.columns
    ]
    layers = _tuned(problem, divided, LAYERS, settings)
    assert layers.setting is not None
    models += [_tuned(problem, divided, NONNEGATIVE, [layers.setting]), layers]
    settings = [setting for setting in settings if setting.map is not None]
    if problem.heads and settings:
        models.append(_tuned(problem, divided, HEADS, settings))
    chosen = min(models, key=lambda model: model.loss)
    gain, error = _gain(chosen.right - unchanged.right, groups[rows])
    if gain <= CLEARLY * error:
        return unchanged, [unchanged, *models]
    if chosen.name != EVEN:
        for axis, wanted in (("step", problem.steps), ("layer", problem.layers)):
            chosen = _pruned(problem, divided, chosen, axis) if wanted else chosen
        if chosen.most:
            models.append(chosen)
    return chosen, [unchanged, *models]


def _gain(differences: NDArray[np.float64], groups: NDArray[np.int64]) -> tuple[float, float]:
    """The mean, and its standard error between image groups."""
    mean = float(differences.mean())
    names, place = np.unique(groups, return_inverse=True)
    sums = np.bincount(place.reshape(-1), differences - mean)
    free = len(names) - 1
    spread = len(names) / free * float((sums**2).sum())
    # few groups know their spread badly: by Student's t as much further as a 95 % interval reaches
    return mean, float(np.sqrt(spread)) / len(differences) * student(free) / student(1 << 20)


def _path(
    problem: Problem,
    name: str,
    setting: Setting,
    rows: NDArray[np.bool_],
    ridges: tuple[float, ...],
    kept: NDArray[np.bool_] | None = None,
    tolerance: float = ROUGH,
) -> list[tuple[Setting, NDArray[np.float64]]]:
    """A regression by its name, at each ridge."""
    found = regressions(
        problem.features(setting.map, name == HEADS),
        setting.prior_weight,
        rows,
        ridges,
        nonnegative=name == NONNEGATIVE,
        kept=kept,
        tolerance=tolerance,
    )
    return [(replace(setting, ridge=ridge), w) for ridge, w in zip(ridges, found, strict=True)]


def _held_out(
    problem: Problem, divided: list[list[Split]], heads: bool, models: list[Model], fit: Fit
) -> list[Model]:
    """The models, judged by comparisons that they have not seen: as many as `fit` gives weights of."""
    of_divisions = []
    for division in divided:
        order = np.argsort(np.concatenate([split.held for split in division]))
        parts = [
            [
                problem.features(setting.map, heads).at(setting.prior_weight, split.held) @ w
                for setting, w in fit(split.rows)
            ]
            for split in division
        ]
        of_divisions.append(np.concatenate([np.array(part) for part in parts], axis=1)[:, order])
    margins = np.stack(of_divisions, axis=1)
    return [model.judged(each) for model, each in zip(models, margins, strict=True)]


def _setting(problem: Problem, divided: list[list[Split]], name: str, settings: list[Setting]) -> Setting:
    """The setting of the least held-out loss."""
    if len(settings) == 1:
        return settings[0]
    models = [Model(name, np.empty(0), setting=setting) for setting in settings]
    judged = _held_out(
        problem,
        divided,
        name == HEADS,
        models,
        lambda train: [model.fit(problem, train, ROUGH) for model in models],
    )
    return settings[int(np.argmin([model.loss for model in judged]))]


def _tuned(problem: Problem, divided: list[list[Split]], name: str, settings: list[Setting]) -> Model:
    """A regression with the setting, and then the ridge, of the least held-out loss."""
    setting = _setting(problem, divided, name, settings)
    models = [Model(name, np.empty(0), setting=replace(setting, ridge=ridge)) for ridge in RIDGES]
    judged = _held_out(
        problem, divided, name == HEADS, models, lambda train: _path(problem, name, setting, train, RIDGES)
    )
    return min(judged, key=lambda model: model.loss)


def _pruned(problem: Problem, divided: list[list[Split]], model: Model, axis: str) -> Model:
    """The model with fewer steps, or layers, if that loses nothing on held-out comparisons."""
    assert model.setting is not None
    features = problem.features(model.setting.map, model.name == HEADS)
    place = features.step if axis == "step" else features.layer
    names = len(np.unique(place[place >= 0]))
    for count in sorted({max(1, round(part * names)) for part in _SHARES}):
        fewer = replace(model, most={**model.most, axis: count})
        (judged,) = _held_out(
            problem,
            divided,
            model.name == HEADS,
            [fewer],
            lambda train, of=fewer: [of.fit(problem, train, ROUGH)],  # type: ignore[misc]
        )
        if count < names and judged.right.mean() >= model.right.mean() and judged.loss <= model.loss:
            return judged
    return model


def _weightiest(
    features: Features,
    setting: Setting,
    rows: NDArray[np.bool_],
    w: NDArray[np.float64],
    most: Mapping[str, int],
) -> NDArray[np.bool_]:
    """Which features are of the steps and layers whose weights move the score most, bool ``[features]``."""
    moved = np.abs(w) * np.sqrt((features.at(setting.prior_weight, rows) ** 2).mean(axis=0))
    kept = np.ones(len(w), bool)
    for axis, count in most.items():
        place = features.step if axis == "step" else features.layer
        names = np.unique(place[place >= 0])
        by_share = names[np.argsort([-moved[kept & (place == name)].sum() for name in names], kind="stable")]
        kept &= np.isin(place, by_share[:count]) | (place < 0)
    return kept
