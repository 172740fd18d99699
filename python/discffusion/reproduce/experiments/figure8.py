"""Figure 8: images generated before and after tuning."""

from __future__ import annotations

from typing import Any

from discffusion.plot.figure import save_png
from discffusion.reproduce.experiment import Experiment
from discffusion.reproduce.generated_images import STEPS, asked, generated_images
from discffusion.reproduce.result import Result
from discffusion.reproduce.runner import ExperimentRunner
from discffusion.reproduce.trainings import FEW

__all__ = ["EXPERIMENT"]

PLACE = "composition"
COUNT = 6


def run(runner: ExperimentRunner) -> Result:
    result = Result(EXPERIMENT.name, EXPERIMENT.title, differences=runner.differences([PLACE]))
    if PLACE not in runner.sources or runner.sources[PLACE].name != "shapes":
        result.notes.append("Not drawn: prompts are the captions of drawn scenes (--data shapes).")
        return result
    wanted = asked(runner.sources[PLACE].test(), COUNT)
    seed = runner.seeds[0]
    deltas = runner.trained(FEW, PLACE, seed).deltas
    rows = {
        "before": generated_images(runner.scorer(), wanted, seed),
        "after": generated_images(runner.scorer(deltas=deltas), wanted, seed),
        "drawn": [each.drawing for each in wanted],
    }

    def draw(figure: Any) -> None:
        grid = figure.subplots(len(rows), len(wanted), squeeze=False)
        for axes, (name, images) in zip(grid, rows.items(), strict=True):
            for axis, image in zip(axes, images, strict=True):
                axis.imshow(image)
                axis.set_xticks([])
                axis.set_yticks([])
            axes[0].set_ylabel(name)
        for axis, each in zip(grid[0], wanted, strict=True):
            words = each.caption.split()
            axis.set_title(
                "\n".join((" ".join(words[:3]), " ".join(words[3:-3]), " ".join(words[-3:]))), fontsize=7
            )

    result.plots.append(save_png(runner.folder / "figure8.png", draw, (9.0, 5.2)))
    result.notes.append(
        f"Captions of test scenes that the drawings in the last row show; DDIM, {STEPS} steps, guidance 7.5, the same "
        f"noise before and after ({FEW.name} training). Table 12 counts what such images show."
    )
    return result


EXPERIMENT = Experiment(
    "figure8",
    "Generated images before and after few-shot tuning",
    "prompts of Visual Genome; DDIM, 50 steps",
    run=run,
)
