"""Figure 6: the loss in training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion.evaluation.intervals import student
from discffusion.plot.figure import save_png
from discffusion.plot.losses import losses as draw_losses
from discffusion.reproduce.claims import answer, side
from discffusion.reproduce.experiment import Experiment
from discffusion.reproduce.result import Result, Verdict
from discffusion.reproduce.runner import ExperimentRunner
from discffusion.reproduce.trainings import FEW

__all__ = ["EXPERIMENT"]

PLACE = "composition"


def fall(curves: Sequence[NDArray[np.float64]]) -> tuple[float, float, float, float]:
    """How far losses fall, over seeds: the means of the first and of the last fifth of the steps, and Welch's 95 %
    interval of their difference.

    Args:
        curves: the losses of each seed, step by step. With less than two steps to a fifth the interval has no ends.
    """
    fifths = [max(1, len(losses) // 5) for losses in curves]
    parts = [part for losses, n in zip(curves, fifths, strict=True) for part in (losses[:n], losses[-n:])]
    first, last = (float(np.mean([part.mean() for part in parts[which::2]])) for which in (0, 1))
    if min(fifths) < 2:
        return first, last, -math.inf, math.inf
    variances = np.array([part.var(ddof=1) / len(part) for part in parts]) / len(curves) ** 2
    sizes = np.array([len(part) for part in parts])
    total = float(variances.sum())
    reach = 0.0
    if total > 0:
        df = total**2 / float((variances**2 / (sizes - 1)).sum())
        reach = student(max(1, int(df))) * math.sqrt(total)
    return first, last, first - last - reach, first - last + reach


def run(runner: ExperimentRunner) -> Result:
    result = Result(EXPERIMENT.name, EXPERIMENT.title, differences=runner.differences([PLACE]))
    if PLACE not in runner.sources:
        result.notes.append("Not measured: no data given to train on (--data comvg=FOLDER).")
        return result
    curves = {
        seed: np.array([row["loss"] for row in runner.trained(FEW, PLACE, seed).rows])
        for seed in runner.seeds
    }
    first, last, low, high = fall(list(curves.values()))
    interval = f"{low:.3f} to {high:.3f}, steps taken as drawn at random"
    if math.isinf(high):
        interval = "too few steps for an interval"
    detail = (
        f"mean of the first fifth of the steps {first:.3f}, of the last fifth {last:.3f}: "
        f"a fall of {first - last:.3f} ({interval})"
    )
    changes = [np.abs(np.diff(losses)).mean() for losses in curves.values() if len(losses) > 1]
    if changes:
        detail += f"; from step to step it changes by {np.mean(changes):.3f} in the mean"
    claim = "The loss falls in training (of this score; the paper shows that of a latent consistency model)"
    result.verdicts.append(Verdict(claim, answer([side(low, high)]), detail))
    result.notes.append(
        "The paper's curve is of training with a latent consistency model, whose fluctuations it takes for "
        "instability; none comes with the package (Table 5). Shown here is few-shot training of the default score of "
        "the model that is measured, with the triplet loss; every step sees other items, timesteps and noise, so steps "
        "scatter."
    )

    def draw(figure: Any) -> None:
        runs = {
            f"seed {seed}": (range(1, len(losses) + 1), losses.tolist()) for seed, losses in curves.items()
        }
        draw_losses(figure.subplots(), runs, "triplet loss")

    result.plots.append(save_png(runner.folder / "figure6.png", draw))
    return result


EXPERIMENT = Experiment(
    "figure6",
    "The loss in training (the paper prints a plot, no figures)",
    "Compositional Visual Genome, with a latent consistency model",
    run=run,
    partly="no latent consistency model comes with the package; the curve is of the model that is measured",
)
