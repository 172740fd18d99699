"""Figure 7: how large the learned deltas are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion.evaluation.intervals import of_groups
from discffusion.plot.figure import save_png
from discffusion.plot.histogram import histogram
from discffusion.reproduce.claims import answer, side
from discffusion.reproduce.experiment import Experiment
from discffusion.reproduce.result import Result, Verdict
from discffusion.reproduce.runner import ExperimentRunner
from discffusion.reproduce.trainings import CAPTIONS

__all__ = ["EXPERIMENT"]

#: "near zero": at most this share of the largest number
NEAR = 0.1


def near_zero(products: Sequence[Mapping[str, Any]], near: float = NEAR) -> tuple[float, float, float]:
    """Share of all numbers whose size is at most `near` times the largest one's of their training.

    With its 95 % interval, which takes matrices as drawn at random and holds those of all trainings together.

    Args:
        products: of each training, what is added to each matrix by its name.
    """
    sums = np.zeros((len(products[0]), 2))
    for of in products:
        mark = near * max(float(np.abs(product).max()) for product in of.values())
        sums += [(np.count_nonzero(np.abs(of[name]) <= mark), of[name].size) for name in products[0]]

    def share(of: NDArray[np.float64]) -> NDArray[np.float64]:
        shares: NDArray[np.float64] = of[..., 0] / of[..., 1]
        return shares

    value = float(share(sums.sum(axis=0)))
    low, high = (of_groups(sums, share) or (value, value))[:2]
    return value, min(low, value), max(high, value)


def run(runner: ExperimentRunner) -> Result:
    result = Result(EXPERIMENT.name, EXPERIMENT.title, differences=runner.differences(["captions"]))
    if "captions" not in runner.sources:
        result.notes.append("Not measured: no data given to train on (--data coco_captions=FOLDER).")
        return result
    deltas = [runner.trained(CAPTIONS, "captions", seed).deltas for seed in runner.seeds]
    share, low, high = near_zero([each.products() for each in deltas])
    relative = [float(np.median(list(each.norms(relative_to=runner.base).values()))) for each in deltas]
    largest = [max(float(np.abs(product).max()) for product in each.products().values()) for each in deltas]
    detail = (
        f"{100 * share:.1f} % ({100 * low:.1f} to {100 * high:.1f}, matrices taken as drawn at random) of the "
        f"numbers lie within a tenth of the largest ({np.mean(largest):.4f}); a delta's norm is "
        f"{100 * np.mean(relative):.1f} % of its weight's (median over matrices)"
    )
    claim = "The learned weights are predominantly near zero (more than half within a tenth of the largest)"
    result.verdicts.append(Verdict(claim, answer([side(low, high, 0.5)]), detail))
    result.notes.append(
        "Trained on captions, as in the paper. Dense deltas are small everywhere rather than sparse: AdamW moves every "
        "number by about the learning rate at a step."
    )

    def draw(figure: Any) -> None:
        by_name = {
            f"seed {seed}": each.histogram(100) for seed, each in zip(runner.seeds, deltas, strict=False)
        }
        histogram(figure.subplots(), by_name)

    result.plots.append(save_png(runner.folder / "figure7.png", draw))
    return result


EXPERIMENT = Experiment(
    "figure7",
    "Histogram of the learned deltas (the paper prints a plot, no figures)",
    "MS-COCO for training",
    run=run,
)
