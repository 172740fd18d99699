"""Figure 7: how large the learned deltas are."""

from __future__ import annotations

from typing import Any

import numpy as np

from discffusion.plot.figure import picture
from discffusion.plot.histogram import histogram
from discffusion.reproduce.bench import Bench
from discffusion.reproduce.experiment import Experiment
from discffusion.reproduce.result import FAILS, HOLDS, Result, Verdict
from discffusion.reproduce.trainings import CAPTIONS

__all__ = ["EXPERIMENT"]

#: "near zero": at most this share of the largest number
NEAR = 0.1


def near_zero(products: dict[str, Any], near: float = NEAR) -> float:
    """Share of all numbers whose size is at most `near` times the largest one's."""
    sizes = np.concatenate([np.abs(product).ravel() for product in products.values()])
    return float(np.mean(sizes <= near * sizes.max()))


def run(bench: Bench) -> Result:
    result = Result(EXPERIMENT.name, EXPERIMENT.title, differences=bench.differences(["captions"]))
    if "captions" not in bench.sources:
        result.notes.append("Not measured: no data given to train on (--data coco_captions=FOLDER).")
        return result
    deltas = [bench.trained(CAPTIONS, "captions", seed).deltas for seed in bench.seeds]
    shares = [near_zero(each.products()) for each in deltas]
    relative = [float(np.median(list(each.norms(relative_to=bench.base).values()))) for each in deltas]
    largest = [max(float(np.abs(product).max()) for product in each.products().values()) for each in deltas]
    detail = (
        f"{100 * np.mean(shares):.1f} % of the numbers lie within a tenth of the largest ({np.mean(largest):.4f}); a "
        f"delta's norm is {100 * np.mean(relative):.1f} % of its weight's (median over matrices)"
    )
    claim = "The learned weights are predominantly near zero (more than half within a tenth of the largest)"
    result.verdicts.append(Verdict(claim, HOLDS if min(shares) > 0.5 else FAILS, detail))
    result.notes.append(
        "Trained on captions, as in the paper. Dense deltas are small everywhere rather than sparse: AdamW moves every "
        "number by about the learning rate at a step."
    )

    def draw(figure: Any) -> None:
        found = {f"seed {seed}": each.histogram(100) for seed, each in zip(bench.seeds, deltas, strict=False)}
        histogram(figure.subplots(), found)

    result.pictures.append(picture(bench.folder / "figure7.png", draw))
    return result


EXPERIMENT = Experiment(
    "figure7",
    "Histogram of the learned deltas (the paper prints a plot, no figures)",
    "MS-COCO for training",
    run=run,
)
