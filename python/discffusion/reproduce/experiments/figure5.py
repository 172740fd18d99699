"""Figure 5: accuracy and time against the number of timesteps; few-shot."""

from __future__ import annotations

from typing import Any

from discffusion.plot.curves import curves
from discffusion.plot.figure import save_png
from discffusion.reproduce.calibrations import ATTENTION
from discffusion.reproduce.claims import Check, Claim, Close
from discffusion.reproduce.columns import REFERRING
from discffusion.reproduce.experiment import Experiment
from discffusion.reproduce.methods import ours
from discffusion.reproduce.result import Result, Row
from discffusion.reproduce.runner import ExperimentRunner
from discffusion.reproduce.tabulate import tabulate
from discffusion.reproduce.trainings import FEW

__all__ = ["EXPERIMENT"]

#: what is done beside the paper's few-shot training
MORE: dict[str, dict[str, Any]] = {
    "zero-shot": {},
    "zero-shot, text prior": {"prior": "null"},
    "calibrated": {"calibration": ATTENTION},
    "trained and calibrated": {"recipe": FEW, "calibration": ATTENTION},
}


def run(runner: ExperimentRunner) -> Result:
    counts = runner.scale.curve
    where = "DDIM timesteps from the noisiest to the cleanest"
    if runner.base.config.noise_range is not None:
        low, high = runner.base.config.noise_range
        where = f"noise levels evenly from {high:g} to {low:g}, the range that the score was tuned for"
    lines = [ours(_label(count), recipe=FEW, steps=count) for count in counts]
    lines += [
        ours(f"{_label(count)}, {name}", steps=count, **options)
        for name, options in MORE.items()
        for count in counts
    ]
    fewest, most, next_to = _label(counts[0]), _label(counts[-1]), _label(counts[-2])
    claims: list[Check] = [
        Claim("More timesteps are better", (most,), (fewest,), ("Top-1 Acc.",)),
        Close(f"Accuracy levels off: {next_to} give what {most} give", next_to, most, column="Top-1 Acc."),
    ]
    notes = [
        f"Timesteps are {where}. The paper saw accuracy level off at about 100 timesteps, on four GPUs.",
        "Rows with a text prior or a calibration are not the paper's; calibrations have the items of the few-shot "
        "training, and choose among that many timesteps.",
    ]
    result = tabulate(runner, EXPERIMENT, REFERRING, lines, claims, notes)
    rows = {row.label: row for row in result.rows if "Top-1 Acc." in row.records}
    xs = [count for count in counts if _label(count) in rows]
    if not xs:
        return result
    times = [_milliseconds(rows[_label(count)]) for count in xs]
    result.notes.append(
        "Time, ms a pair of image and text: "
        + ", ".join(f"{_label(count)} {ms:.1f}" for count, ms in zip(xs, times, strict=True))
        + f" (on {runner.base.device}, with whatever else the machine did)."
    )

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        points = {
            column.name: [(x, rows[_label(x)].cells[column.name].estimate) for x in xs]
            for column in REFERRING
        }
        for name in MORE:
            labels = {count: f"{_label(count)}, {name}" for count in counts}
            found = [
                (x, rows[label].cells["Top-1 Acc."].estimate) for x, label in labels.items() if label in rows
            ]
            if found:
                points[f"Top-1, {name}"] = found
        curves(axes, points, "timesteps", "accuracy (%)")
        # Above the axes: inside, the curve of the second scale would run through it.
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
        axes.set_xscale("log")
        axes.set_xticks(xs, [str(x) for x in xs])
        beside = axes.twinx()
        beside.plot(xs, times, marker="s", linestyle="--", color="grey")
        beside.set_ylabel("ms a pair (dashed)")
        beside.set_ylim(bottom=0)

    result.plots.append(save_png(runner.folder / "figure5.png", draw))
    return result


def _milliseconds(row: Row) -> float:
    """What scoring a pair of image and text took."""
    pairs = sum(record.scores.size for records in row.records["Top-1 Acc."].values() for record in records)
    return 1000 * row.seconds / pairs


def _label(count: int) -> str:
    return "1 timestep" if count == 1 else f"{count} timesteps"


EXPERIMENT = Experiment(
    "figure5",
    "Accuracy and time against timesteps, few-shot (the paper prints a plot, no figures)",
    "RefCOCOg; 5 % for training; four A6000",
    run=run,
)
