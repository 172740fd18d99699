"""Measures tables and figures, and writes the report."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from discffusion._arguments import whole_number
from discffusion.errors import ConfigError
from discffusion.reproduce import report
from discffusion.reproduce.registry import experiment, experiment_names
from discffusion.reproduce.result import Result
from discffusion.reproduce.runner import ExperimentRunner
from discffusion.reproduce.scale import FULL, QUICK, Scale

if TYPE_CHECKING:
    from discffusion.scorer import Scorer

__all__ = ["reproduce"]


def reproduce(
    names: Iterable[str] | None = None,
    scorer: Scorer | None = None,
    data: Sequence[tuple[str, str | None]] = (("shapes", None),),
    *,
    quick: bool = False,
    seeds: int | None = None,
    limit: int | None = None,
    allow_missing: bool = False,
    output: str | os.PathLike[str] | None = None,
    baselines: Mapping[str, str] | None = None,
    batch_size: int = 8,
    scale: Scale | None = None,
    say: Callable[[str], None] = lambda _: None,
    done: Callable[[Result], None] = lambda _: None,
) -> list[Result]:
    """Measures tables and figures of the paper, beside its own figures.

    Trainings and measurements that several need are done once. With an `output`, they are kept there: a run that was
    interrupted and is started again goes on where it was.

    Args:
        names: as ``table3`` or ``figure4``; None for all.
        scorer: the model; None for the bundled pocket model. Its configuration is not used.
        data: names of datasets with the folders of their files; ``shapes``, which needs none, fills every place in the
            tables that no other one fills.
        quick: fewer items, fewer passes and one seed.
        seeds: how many; 3, or 1 if `quick`, where None.
        limit: items a dataset read from files is measured on, evenly over its groups; None for all, or few if `quick`.
        allow_missing: leave items out whose images are missing, and say so; without, they are an error.
        output: folder for ``report.md``, ``report.json``, the plots, the rows of scores and the trainings. Without
            one nothing is kept but what is returned.
        baselines: a folder or hub id by the name of a baseline, as ``{"clip": …, "blip2-itm": …}``.
        batch_size: items to a training step.
        scale: all numbers of items, passes and timesteps, in place of `quick`.
        say: told what is being done, a line at a time.
        done: told each result as it comes.

    Returns:
        A result a table or figure, in the order asked for; a gap says what is missing.

    Raises:
        ConfigError: a name or an option is unknown.
        DatasetError: files of a dataset are missing or malformed.
    """
    wanted = [experiment(name) for name in dict.fromkeys(experiment_names() if names is None else names)]
    if not wanted:
        raise ConfigError(f"no table or figure is named; there are {', '.join(experiment_names())}")
    chosen = scale or (QUICK if quick else FULL)
    if limit is not None:
        chosen = replace(chosen, limit=whole_number("limit", limit, 1))
    count = chosen.seeds if seeds is None else whole_number("seeds", seeds, 1)
    start = time.perf_counter()
    with ExitStack() as stack:
        if output is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="discffusion-")))
        else:
            folder = Path(output).expanduser()
            folder.mkdir(parents=True, exist_ok=True)
        if scorer is None:
            from discffusion.scorer import Scorer

            scorer = stack.enter_context(Scorer())
        runner = ExperimentRunner(
            scorer,
            data,
            chosen,
            range(count),
            folder,
            batch_size=whole_number("batch_size", batch_size, 1),
            allow_missing=allow_missing,
            baselines=baselines,
            say=say,
        )
        results = []
        for each in wanted:
            begin = time.perf_counter()
            result = each.result(runner)
            result.seconds = time.perf_counter() - begin
            if output is None:  # the plots go with the folder
                result.plots.clear()
            results.append(result)
            # after each, so that an interrupted run leaves a report of what it did
            if output is not None:
                report.write(folder, results, report.facts(runner, time.perf_counter() - start))
            done(result)
    return results
