"""Figure 3: attention maps of the last one, two and eight layers and of all; zero-shot."""

from __future__ import annotations

from discffusion.plot.curves import curves
from discffusion.plot.figure import save_png
from discffusion.reproduce.claims import Check, Claim, Close
from discffusion.reproduce.columns import COMPOSITION
from discffusion.reproduce.experiment import Experiment
from discffusion.reproduce.methods import TableRow, ours
from discffusion.reproduce.result import Result
from discffusion.reproduce.runner import ExperimentRunner
from discffusion.reproduce.tabulate import tabulate

__all__ = ["EXPERIMENT"]

LAST = {1: "the last layer", 2: "the last two", 4: "the last four", 8: "the last eight"}
ALL = "all layers"


def layers_of(count: int) -> list[int]:
    """How many of the last layers are measured, of `count`: the paper's 1, 2 and 8, or as far as there are so many."""
    return [1, 2, 8] if count > 8 else [n for n in (1, 2, 4) if n < count]


def run(runner: ExperimentRunner) -> Result:
    count = len(runner.base.info()["layers"])
    numbers = layers_of(count)
    lines: list[TableRow] = []
    for variant in ("attention", "paper"):
        lines += [ours(LAST[n], variant, layers=f"last({n})") for n in numbers]
        lines.append(ours(ALL, variant, layers="all"))
    claims: list[Check] = [
        Claim("All layers together are best", (ALL,), tuple(LAST[n] for n in numbers)),
        Close("The last two layers give what the last one gives", LAST[2], LAST[1]),
    ]
    notes = []
    if 8 not in numbers:
        notes.append(f"The model has {count} layers with cross-attention: there is no row of the last eight.")
    result = tabulate(runner, EXPERIMENT, COMPOSITION, lines, claims, notes)
    labels = [*(LAST[n] for n in numbers), ALL]

    def draw(figure: object) -> None:
        points = {
            variant: [
                (place, row.cells["All"].estimate)
                for place, label in enumerate(labels)
                for row in result.rows
                if (row.label, row.variant) == (label, variant) and "All" in row.cells
            ]
            for variant in ("attention", "paper")
        }
        curves(figure.subplots(), points, "attention maps of", "accuracy (%)", labels)  # type: ignore[attr-defined]

    result.plots.append(save_png(runner.folder / "figure3.png", draw))
    return result


EXPERIMENT = Experiment(
    "figure3",
    "Number of layers, zero-shot (the paper prints a plot, no figures)",
    "Compositional Visual Genome",
    run=run,
)
