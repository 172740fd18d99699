"""Figure 4: some of the attention heads, averaged plainly or with learned weights; few-shot."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from discffusion.evaluation.estimate import Estimate
from discffusion.evaluation.record import Record
from discffusion.plot.curves import curves
from discffusion.plot.figure import save_png
from discffusion.reproduce.calibrations import ATTENTION
from discffusion.reproduce.claims import Claim, answer, pooled, side
from discffusion.reproduce.columns import COMPOSITION, Column
from discffusion.reproduce.experiment import Experiment
from discffusion.reproduce.methods import ours
from discffusion.reproduce.result import Cell, Result, Row, Verdict
from discffusion.reproduce.runner import ExperimentRunner
from discffusion.reproduce.tabulate import tabulate
from discffusion.reproduce.trainings import FEW

__all__ = ["EXPERIMENT"]

PLACE = "composition"
PLAIN, LEARNED = "plain mean", "learned weights"
#: weights of heads, of layers and timesteps too, that a calibration found, without deltas and with them
FITTED = {"calibrated": None, "few-shot, calibrated": FEW}
#: at most so many subsets of heads of a size are averaged
SUBSETS = 10
COLUMN = next(column for column in COMPOSITION if column.name == "All")


def subsets_of(heads: int, size: int) -> list[tuple[int, ...]]:
    """Subsets of that many heads: all of them, or some drawn at random."""
    subsets = list(combinations(range(heads), size))
    return subsets if len(subsets) <= SUBSETS else sorted(random.Random(size).sample(subsets, SUBSETS))


def combined(of_heads: Sequence[Sequence[Record]], weights: Sequence[float]) -> list[Record]:
    """Records whose scores are weighted means of those of single heads; heads of weight 0 do not count."""
    total = sum(weights)
    return [
        replace(
            records[0],
            scores=np.sum([w * record.scores for w, record in zip(weights, records, strict=True)], axis=0)
            / total,
        )
        for records in zip(*of_heads, strict=True)
    ]


def run(runner: ExperimentRunner) -> Result:
    layer = runner.base.info()["layers"][-1]
    heads = int(layer["heads"])
    # a layer's score is the mean over heads of their own scores, so subsets need no scoring of their own
    lines = [ours(f"head {head} alone", recipe=FEW, layers="last(1)", heads=[head]) for head in range(heads)]
    lines += [
        ours(
            "all heads, weighted for each pair (attributed)", recipe=FEW, layers="last(1)", heads="attributed"
        ),
        ours("all heads, weights found in training (learned)", recipe=FEW, layers="last(1)", heads="learned"),
        ours("all heads, without training", layers="last(1)"),
        ours("all heads, without training, text prior", layers="last(1)", prior="null"),
        ours("all heads, text prior", recipe=FEW, layers="last(1)", prior="null"),
        *(ours(_fitted(name), recipe=recipe, calibration=ATTENTION) for name, recipe in FITTED.items()),
    ]
    result = tabulate(runner, EXPERIMENT, COMPOSITION, lines)
    single = result.rows[:heads]
    if any(not row.records for row in single):
        return result
    learned = {
        seed: (runner.trained(FEW, PLACE, seed).deltas.head_weights or {}).get(layer["name"])
        for seed in runner.seeds
    }
    points: dict[str, list[tuple[float, Estimate]]] = {PLAIN: [], LEARNED: []}
    for size in range(1, heads + 1):
        for name in points:
            if name == LEARNED and (size == 1 or not all(learned.values())):
                continue  # one head has no other to be weighed against
            weights = learned if name == LEARNED else {}
            row = combined_row(f"{size} of {heads} heads, {name}", size, single, weights)
            result.rows.append(row)
            points[name].append((size, row.cells["All"].estimate))
    columns: Mapping[str, Column] = {column.name: column for column in COMPOSITION}
    most = f"{heads} of {heads} heads"
    weighting = Claim(
        "Weighting heads beats their plain mean", (f"{most}, {LEARNED}",), (f"{most}, {PLAIN}",)
    )
    result.verdicts += weighting(result.rows, columns)
    fewer = [row for row in result.rows if row.label.endswith(PLAIN) and not row.label.startswith(most)]
    result.verdicts.append(
        all_are_best(next(row for row in result.rows if row.label == f"{most}, {PLAIN}"), fewer)
    )
    result.notes += [
        f"Heads of the last layer, {layer['name']}, which is the one that the preset attention reads; it has {heads}, "
        "the paper's has five. A row of fewer heads is the mean of the accuracies of all subsets of that size "
        f"({SUBSETS} drawn at random where there are more).",
        "Learned weights are those that training found (appendix J), scaled to mean 1 over the heads that are used.",
        "Rows with a text prior or a calibration are not the paper's. Calibrated rows weigh the heads of all layers at "
        "each timestep, by the items that few-shot training has.",
    ]
    for name in FITTED:
        for row in result.rows:
            if row.label == _fitted(name) and "All" in row.cells:
                points[name] = [(heads, row.cells["All"].estimate)]

    def draw(figure: Any) -> None:
        curves(figure.subplots(), points, "attention heads", "accuracy (%)")

    result.plots.append(save_png(runner.folder / "figure4.png", draw))
    return result


def _fitted(name: str) -> str:
    return f"heads of all layers, {name}"


def combined_row(
    label: str, size: int, single: Sequence[Row], weights: Mapping[int, Sequence[float] | None]
) -> Row:
    """A row of subsets of heads, from the rows of single heads.

    Args:
        size: heads to a subset.
        weights: by seed, of each head; an empty mapping for a plain mean.
    """
    chosen = subsets_of(len(single), size)
    cells, by_column = {}, {}
    for column in COMPOSITION:
        if any(column.name not in row.records for row in single):
            continue
        by_seed: dict[int, list[Record]] = {}
        for seed in single[0].records[column.name]:
            of_heads = [row.records[column.name][seed] for row in single]
            given = weights.get(seed) or [1.0] * len(single)
            by_seed[seed] = [
                replace(record, key=f"{record.key}/{subset}") if len(chosen) > 1 else record
                for subset in chosen
                for record in combined(of_heads, [w * (head in subset) for head, w in enumerate(given)])
            ]
        each = tuple(column.measure(records).value for records in by_seed.values())
        cells[column.name], by_column[column.name] = Cell(column.measure(pooled(by_seed)), each), by_seed
    return Row(label, "", cells, by_column, {}, single[0].seeds, 0.0, "from the rows of single heads")


def all_are_best(most: Row, fewer: Sequence[Row]) -> Verdict:
    """Whether all heads beat every smaller number of them, each subset's items against the same items."""
    signs, details = [], []
    for row in fewer:
        # every item stands once for each subset in the row of fewer heads; so it must in the other
        of_all = {record.key: record for record in pooled(most.records["All"])}
        of_row = pooled(row.records["All"])
        same = [replace(of_all[_item(record.key, of_all)], key=record.key) for record in of_row]
        comparison = COLUMN.compare(same, of_row)
        signs.append(side(comparison.low, comparison.high))
        interval = f"{100 * comparison.low:+.1f} to {100 * comparison.high:+.1f}"
        details.append(
            f"all − {row.label.partition(',')[0]}: {100 * comparison.difference:+.1f} ({interval})"
        )
    return Verdict("All heads are best", answer(signs), "; ".join(details))


def _item(key: str, by_key: Mapping[str, Record]) -> str:
    """The key of the item without the subset in it."""
    if key in by_key:
        return key
    start, end = key.rindex("/("), key.rindex(")") + 1
    return key[:start] + key[end:]


EXPERIMENT = Experiment(
    "figure4",
    "Number of attention heads and their weights, few-shot (the paper prints a plot, no figures)",
    "Compositional Visual Genome; 5 % for training",
    run=run,
)
