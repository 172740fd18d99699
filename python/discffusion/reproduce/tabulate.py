"""From lines to a table: measures every line in every column, and answers the claims."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from discffusion.errors import CheckpointError, InstallationError
from discffusion.evaluation.record import Record
from discffusion.reproduce.baselines import CLIPS
from discffusion.reproduce.claims import Check, pooled
from discffusion.reproduce.columns import Column
from discffusion.reproduce.methods import TableRow
from discffusion.reproduce.result import Cell, Result, Row
from discffusion.reproduce.runner import LacksDataError
from discffusion.reproduce.sources import BENCHMARKS

if TYPE_CHECKING:
    from discffusion.reproduce.experiment import Experiment
    from discffusion.reproduce.runner import ExperimentRunner

__all__ = ["measured_row", "tabulate"]


def tabulate(
    runner: ExperimentRunner,
    experiment: Experiment,
    columns: Sequence[Column],
    lines: Iterable[TableRow],
    claims: Iterable[Check] = (),
    notes: Sequence[str] = (),
) -> Result:
    """Measures the lines. What cannot be measured stays in the table with its reason."""
    result = Result(experiment.name, experiment.title, experiment.printed, notes=list(notes))
    for line in lines:
        runner.say(f"{experiment.name}: {line.label}" + (f" ({line.variant})" if line.variant else ""))
        result.rows.append(measured_row(runner, line, columns))
    printed = experiment.printed.columns if experiment.printed else ()
    with_values = {name for row in result.rows for name in row.cells}
    result.columns = tuple(
        column.name for column in columns if column.name in with_values or column.name in printed
    )
    by_name = {column.name: column for column in columns}
    for claim in claims:
        result.verdicts += claim(result.rows, by_name)
    places = [column.place for column in columns]
    result.differences = runner.differences(places)
    clip = runner.clip_difference()
    if clip and any(row.cells and row.about.startswith(CLIPS) for row in result.rows):
        result.differences.append(clip)
    if runner.scale.paper_steps != 50 and any(row.variant == "paper" for row in result.rows):
        result.differences.append(f"the variant paper has {runner.scale.paper_steps} timesteps, not 50")
    result.notes += runner.remarks(places)
    return result


def measured_row(runner: ExperimentRunner, line: TableRow, columns: Sequence[Column]) -> Row:
    """One line, measured in every column."""
    method = line.method
    if method is None:
        return Row(line.label, line.variant, absent=line.absent)
    cells: dict[str, Cell] = {}
    records: dict[str, Mapping[int, Sequence[Record]]] = {}
    missing = dict(line.absent)
    seconds, seeds = 0.0, set[int]()
    for place in dict.fromkeys(column.place for column in columns):
        here = [column for column in columns if column.place == place]
        why = ""
        if method.places is not None and place not in method.places:
            of = " and ".join(BENCHMARKS[place_of].paper.partition(" (")[0] for place_of in method.places)
            what = f"the variant {line.variant}" if line.variant else "this row"
            why = f"at the scale {runner.scale.name}, {what} is measured on {of} alone"
        else:
            try:
                measured = runner.measure(method, place)
            except (CheckpointError, InstallationError, LacksDataError) as error:
                why = str(error)
        if why:
            missing |= {column.name: why for column in here}
            continue
        seconds += measured.seconds
        seeds |= set(measured.by_seed)
        for column in here:
            by_seed = {seed: column.select(of) for seed, of in measured.by_seed.items()}
            if not all(by_seed.values()):
                missing[column.name] = f"{runner.sources[place].name} has no such items"
                continue
            records[column.name] = by_seed
            each = [column.measure(of).value for of in by_seed.values()]
            cells[column.name] = Cell(column.measure(pooled(by_seed)), tuple(each))
    return Row(line.label, line.variant, cells, records, missing, tuple(sorted(seeds)), seconds, method.about)
