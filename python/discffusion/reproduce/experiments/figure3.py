"""Figure 3: attention maps of the last one, two and eight layers and of all; zero-shot, and with a few labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from discffusion.plot.curves import curves
from discffusion.plot.figure import save_png
from discffusion.reproduce.calibrations import ATTENTION, STEPS
from discffusion.reproduce.claims import Check, Claim, Close
from discffusion.reproduce.columns import COMPOSITION
from discffusion.reproduce.experiment import Experiment
from discffusion.reproduce.methods import TableRow, ours
from discffusion.reproduce.result import Result
from discffusion.reproduce.runner import ExperimentRunner
from discffusion.reproduce.tabulate import tabulate
from discffusion.reproduce.trainings import FEW

if TYPE_CHECKING:
    from discffusion.evaluation.estimate import Estimate

__all__ = ["EXPERIMENT"]

LAST = {1: "the last layer", 2: "the last two", 4: "the last four", 8: "the last eight"}
ALL = "all layers"
#: a calibration may weigh layers and heads, the last ones or others
WEIGHED = "layers and heads weighed"
#: what is done beside the paper's zero-shot rows, of the variant attention
MORE: dict[str, dict[str, Any]] = {
    "text prior": {"prior": "null"},
    "few-shot": {"recipe": FEW},
    "timesteps calibrated": {"calibration": STEPS},
}


def layers_of(count: int) -> list[int]:
    """How many of the last layers are measured, of `count`: the paper's 1, 2 and 8, or as far as there are so many."""
    return [1, 2, 8] if count > 8 else [n for n in (1, 2, 4) if n < count]


def run(runner: ExperimentRunner) -> Result:
    count = len(runner.base.info()["layers"])
    numbers = layers_of(count)
    layers = {**{LAST[n]: f"last({n})" for n in numbers}, ALL: "all"}
    lines: list[TableRow] = [
        ours(label, variant, layers=chosen)
        for variant in ("attention", "paper")
        for label, chosen in layers.items()
    ]
    lines += [
        ours(f"{label}, {name}", **options, layers=chosen)
        for name, options in MORE.items()
        for label, chosen in layers.items()
    ]
    lines.append(ours(WEIGHED, calibration=ATTENTION))
    claims: list[Check] = [
        Claim("All layers together are best", (ALL,), tuple(LAST[n] for n in numbers)),
        Close("The last two layers give what the last one gives", LAST[2], LAST[1]),
    ]
    notes = [
        "Rows with a text prior, training or calibration are not the paper's. Training and calibration have the same "
        "items; deltas were trained for the last layer's score and are measured with others, and timesteps are "
        "calibrated for each number of layers.",
    ]
    if 8 not in numbers:
        notes.append(f"The model has {count} layers with cross-attention: there is no row of the last eight.")
    result = tabulate(runner, EXPERIMENT, COMPOSITION, lines, claims, notes)
    rows = {(row.label, row.variant): row for row in result.rows if "All" in row.cells}

    def points(variant: str, name: str = "") -> list[tuple[float, Estimate]]:
        labels = [f"{label}, {name}" if name else label for label in layers]
        if name == STEPS.name:
            labels.append(WEIGHED)
        return [
            (place, rows[label, variant].cells["All"].estimate)
            for place, label in enumerate(labels)
            if (label, variant) in rows
        ]

    def draw(figure: Any) -> None:
        lines = {variant: points(variant) for variant in ("attention", "paper")}
        lines |= {f"attention, {name}": points("attention", name) for name in MORE}
        lines = {name: found for name, found in lines.items() if found}
        curves(figure.subplots(), lines, "attention maps of", "accuracy (%)", [*layers, WEIGHED])

    result.plots.append(save_png(runner.folder / "figure3.png", draw))
    return result


EXPERIMENT = Experiment(
    "figure3",
    "Number of layers, zero-shot (the paper prints a plot, no figures)",
    "Compositional Visual Genome",
    run=run,
)
