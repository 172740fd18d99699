"""``discffusion eval``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from discffusion._workers import rank
from discffusion.cli import words
from discffusion.cli.data import (
    AllowMissing,
    Data,
    Rest,
    Sample,
    SampleSeed,
    Skip,
    Subset,
    chosen,
    open_dataset,
    pairs,
)
from discffusion.cli.options import Calibration, Deltas, Setup
from discffusion.cli.results import as_json, warn
from discffusion.cli.stages import Keep, Stages, staging
from discffusion.cli.words import spoken
from discffusion.errors import ConfigError

if TYPE_CHECKING:
    from discffusion.evaluation import Comparison, Report

_DATA = "Data"
_RUN = "Run"


def evaluate(
    setup: Setup,
    dataset: Annotated[
        str | None,
        typer.Argument(help="Name of a dataset, such as shapes; --list names all.", show_default=False),
    ] = None,
    root: Annotated[
        str | None, typer.Option(help="Folder of the dataset's files.", rich_help_panel=_DATA)
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Split to score.", show_default="the one for evaluation", rich_help_panel=_DATA),
    ] = None,
    subset: Subset = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Score the first items only.", rich_help_panel=_DATA)
    ] = None,
    sample: Sample = None,
    sample_seed: SampleSeed = 0,
    rest: Rest = False,
    skip: Skip = 0,
    data: Data = None,
    allow_missing: AllowMissing = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File for the rows, .jsonl or .parquet.", rich_help_panel=_RUN),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--no-resume", help="Resume: keep the rows in the output.", rich_help_panel=_RUN
        ),
    ] = True,
    batch_items: Annotated[
        int | None,
        typer.Option(min=1, help="Items that are scored and written together.", rich_help_panel=_RUN),
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(help="Metrics, separated by commas; auto: the dataset's.", rich_help_panel=_RUN),
    ] = "auto",
    compare: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Rows of another evaluation of these items, to compare with; may be repeated.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    stages: Stages = None,
    keep: Keep = None,
    verify: Annotated[
        int,
        typer.Option(
            min=0,
            help="Also score the first N items without stages, to check that the winner is the same.",
            rich_help_panel="Score",
        ),
    ] = 0,
    deltas: Deltas = None,
    calibration: Calibration = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="Score with this baseline; --list names all, with their models.", rich_help_panel="Model"
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="An option of the baseline; may be repeated.",
            rich_help_panel="Model",
        ),
    ] = None,
    list_: Annotated[
        bool,
        typer.Option(
            "--list", help="List datasets, metrics and baselines, or the options of DATASET, and exit."
        ),
    ] = False,
) -> None:
    """Measure how often a matching image-text pair scores above a non-matching one: a table with 95 % intervals.

    With `--output`, every score is written as it comes; the same command goes on with a run that was interrupted.
    Images that are missing are an error, unless `--allow-missing` is given.

    Where the score has a calibration, the metric `probability` says how right its probabilities are.

    Choose options on some items and report on the others: `--sample 200`, then `--sample 200 --rest`.

    Example: `discffusion eval shapes --limit 200`

    Example: `discffusion eval winoground --root data/winoground -m MODEL -o rows.jsonl --compare clip.jsonl`

    Example: `discffusion eval table --root held_out.csv --data image=file --data negative_texts=foil -m MODEL`

    Example: `discffusion eval shapes --baseline clip --option model=pocket -o clip.jsonl`
    """
    if list_:
        _list(setup, dataset)
        return
    if dataset is None:
        raise typer.BadParameter("name a dataset; discffusion eval --list names all")
    names = "auto" if metrics == "auto" else [name.strip() for name in metrics.split(",")]
    options = pairs("--option", option)
    how = staging(stages, keep)
    if baseline is not None and stages is not None:
        raise typer.BadParameter(
            "--stages need a diffusion model; a baseline has its own: --option stages=[4,12,50]"
        )
    _check(setup, baseline, options, names, {"--deltas": deltas, "--calibration": calibration})
    items = chosen(
        open_dataset(dataset, root, split, subset, data, allow_missing), sample, sample_seed, rest, skip
    )
    from discffusion import evaluation
    from discffusion.evaluation.store.files import recorded

    for path in compare or ():
        recorded(path)  # before anything is scored: a file that cannot be compared with
    scorer = setup.scorer(deltas, calibration) if baseline is None else _baseline(setup, baseline, options)
    report = evaluation.evaluate(
        scorer, items, names, limit, output, resume, batch_items=batch_items, **how, verify=verify
    )
    if rank().number > 0:
        return  # the first of several processes that score together says what came out
    if not setup.json:
        typer.echo(_table(report))
    comparisons: dict[str, list[Comparison]] = {}
    try:
        for path in compare or ():
            comparisons[str(path)] = _compared(report, path, items, limit)
            if not setup.json:
                typer.echo(
                    "\n".join(["", f"{output or 'this run'} − {path}:", *_lines(comparisons[str(path)])])
                )
    finally:  # what was measured is printed, whatever becomes of a comparison
        if setup.json:
            typer.echo(as_json(_as_data(report, comparisons)))


def _list(setup: Setup, dataset: str | None) -> None:
    from discffusion.baselines import describe_baselines
    from discffusion.data import describe_datasets, describe_options
    from discffusion.evaluation import describe_metrics

    if dataset is not None:
        options = {f"--data options of {dataset}": describe_options(dataset)}
    else:
        options = {
            "datasets": describe_datasets(),
            "metrics": describe_metrics(),
            "baselines": describe_baselines(),
        }
    if setup.json:
        typer.echo(as_json(options))
        return
    width = max(len(name) for lines in options.values() for name in lines or ("",))
    for title, lines in options.items():
        typer.echo(f"{title}:")
        for name, line in lines.items():
            typer.echo(f"  {name:<{width}}  {line}")


def _check(
    setup: Setup,
    baseline: str | None,
    options: dict[str, Any],
    names: str | list[str],
    files: dict[str, str | None],
) -> None:
    """Options that do not go together are usage errors, before anything is loaded."""
    from discffusion.evaluation.metrics import metric_named

    if baseline is None and options:
        raise typer.BadParameter("--option is for a baseline: give --baseline")
    for name, file in files.items():
        if baseline is not None and file is not None:
            raise typer.BadParameter(f"{name} needs a diffusion model; a baseline takes none")
    setup.check(files["--calibration"])
    if baseline is not None and (setup.fields or setup.config != "default"):
        given = ", ".join(setup.fields) or "config"
        raise typer.BadParameter(f"{given}: of the score; a baseline has its own: --option NAME=VALUE")
    if setup.dtype == "fastest" and baseline is not None and not baseline.startswith("diffusion-"):
        raise typer.BadParameter(
            "--dtype fastest needs a diffusion model; expected auto, float32, float16 or bfloat16"
        )
    for name in names if isinstance(names, list) else ():
        metric_named(name)


def _baseline(setup: Setup, name: str, options: dict[str, Any]) -> Any:
    from discffusion.baselines import load_baseline

    common = {"model": setup.model, "revision": setup.revision, "variant": setup.variant}
    placed = {"device": setup.device, "dtype": setup.dtype}
    given = {key: value for key, value in common.items() if value is not None}
    given |= {key: value for key, value in placed.items() if value != "auto"}
    return load_baseline(name, **{**given, **options})


def _compared(report: Report, path: Path, items: Any, limit: int | None) -> list[Comparison]:
    """Every value of the report that has a comparison, of all items and of each group, with that of other rows."""
    from discffusion.evaluation import compare, reopen

    metrics = dict.fromkeys(name.partition("/")[0] for name in report.metrics)
    metrics.pop("probability", None)  # the other scorer may have none, and none is compared
    other = reopen(path, items, list(metrics) or "auto", limit)
    comparisons = []
    for name, group, _ in report.shown():
        if name.startswith("probability/"):
            continue
        try:
            comparisons.append(compare(report, other, name, group))
        except ConfigError as error:
            warn(f"not compared: {error}")
    return comparisons


def _table(report: Report) -> str:
    """The report's table, whose notes name options as they are typed."""
    lines = report.table().splitlines()
    return "\n".join(spoken(line, words.now) if line.startswith("- ") else line for line in lines)


def _lines(comparisons: list[Comparison]) -> list[str]:
    return [f"- {one}" for one in comparisons]


def _as_data(report: Report, comparisons: dict[str, list[Comparison]]) -> dict[str, Any]:
    compared = {path: [one.to_dict() for one in of_path] for path, of_path in comparisons.items()}
    return {**report.to_dict(), "compared": compared}
