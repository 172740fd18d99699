"""``discffusion eval``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from discffusion._workers import rank
from discffusion.cli.options import Setup
from discffusion.cli.stages import Keep, Stages, staging
from discffusion.errors import ConfigError

if TYPE_CHECKING:
    from discffusion.evaluation import Comparison, Report

_DATA = "Data"
_RUN = "Run"


def evaluate(
    setup: Setup,
    dataset: Annotated[
        str | None, typer.Argument(help="Name of a dataset, as shapes; --list names all.", show_default=False)
    ] = None,
    root: Annotated[
        str | None, typer.Option(help="Folder of the dataset's files.", rich_help_panel=_DATA)
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Split to score.", show_default="the one for evaluation", rich_help_panel=_DATA),
    ] = None,
    subset: Annotated[str | None, typer.Option(help="Subset of the split.", rich_help_panel=_DATA)] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Score the first items only.", rich_help_panel=_DATA)
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Another option of the dataset; give it again for more.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing",
            help="Leave out items whose images are missing, and say so.",
            rich_help_panel=_DATA,
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File for the rows, .jsonl or .parquet.", rich_help_panel=_RUN),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume/--no-resume", help="Keep the rows of the output.", rich_help_panel=_RUN),
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
            help="Rows of another evaluation of these items, to compare with; give it again for more.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    stages: Stages = None,
    keep: Keep = None,
    verify: Annotated[
        int,
        typer.Option(
            min=0, help="Score so many of the first items without stages too.", rich_help_panel="Score"
        ),
    ] = 0,
    deltas: Annotated[
        str | None, typer.Option(help="File of deltas to score with.", rich_help_panel="Model")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(help="Score with this baseline; --list names all.", rich_help_panel="Model"),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="An option of the baseline; give it again for more.",
            rich_help_panel="Model",
        ),
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="List datasets, metrics and baselines, and exit.")
    ] = False,
) -> None:
    """Measure how well matching images and texts are told from others: a table with 95 % intervals.

    With `--output`, every score is written as it comes; the same command goes on with a run that was interrupted.
    Images that are missing are an error, unless `--allow-missing` is given.

    Examples: `discffusion eval shapes --limit 200` and
    `discffusion eval winoground --root data/winoground --output rows.jsonl --compare clip.jsonl`
    """
    if list_:
        _list(setup)
        return
    if dataset is None:
        raise typer.BadParameter("name a dataset; discffusion eval --list names all")
    names = "auto" if metrics == "auto" else [name.strip() for name in metrics.split(",")]
    more = _pairs("--data", data)
    if allow_missing:
        more["allow_missing"] = True
    options = _pairs("--option", option)
    how = staging(stages, keep)
    if baseline is not None and stages is not None:
        raise typer.BadParameter(
            "--stages are of a diffusion model; a baseline has its own: --option stages=[4,12,50]"
        )
    _check(setup, baseline, options, deltas, names)
    from discffusion import evaluation
    from discffusion.data import load_dataset

    items = load_dataset(dataset, root, split, subset, **more)
    scorer = setup.scorer() if baseline is None else _baseline(setup, baseline, options)
    if deltas is not None:
        scorer.load_deltas(deltas)
    report = evaluation.evaluate(
        scorer, items, names, limit, output, resume, batch_items=batch_items, **how, verify=verify
    )
    if rank().number > 0:
        return  # the first of several processes that score together says what came out
    comparisons = {str(path): _compared(report, path, items, limit) for path in compare or ()}
    _show(setup, report, comparisons)


def _list(setup: Setup) -> None:
    from discffusion.baselines import describe_baselines
    from discffusion.data import describe_datasets
    from discffusion.evaluation import describe_metrics

    found = {
        "datasets": describe_datasets(),
        "metrics": describe_metrics(),
        "baselines": describe_baselines(),
    }
    if setup.json:
        typer.echo(json.dumps(found, indent=2))
        return
    width = max(len(name) for lines in found.values() for name in lines)
    for title, lines in found.items():
        typer.echo(f"{title}:")
        for name, line in lines.items():
            typer.echo(f"  {name:<{width}}  {line}")


def _pairs(flag: str, given: list[str] | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"{flag} is {text!r}; expected NAME=VALUE, as n=100")
        try:
            found[name.replace("-", "_")] = json.loads(value)
        except ValueError:
            found[name.replace("-", "_")] = value
    return found


def _check(
    setup: Setup, baseline: str | None, options: dict[str, Any], deltas: str | None, names: str | list[str]
) -> None:
    """Options that do not go together are usage errors, before anything is loaded."""
    from discffusion.evaluation.metrics import metric_named

    if baseline is None and options:
        raise typer.BadParameter("--option is for a baseline: give --baseline")
    if baseline is not None and deltas is not None:
        raise typer.BadParameter("--deltas are of a diffusion model; a baseline takes none")
    if baseline is not None and (setup.fields or setup.config != "default"):
        given = ", ".join(setup.fields) or "config"
        raise typer.BadParameter(f"{given}: of the score; a baseline has its own: --option NAME=VALUE")
    try:
        for name in names if isinstance(names, list) else ():
            metric_named(name)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from None


def _baseline(setup: Setup, name: str, options: dict[str, Any]) -> Any:
    from discffusion.baselines import load_baseline

    common = {"model": setup.model, "revision": setup.revision, "variant": setup.variant}
    placed = {"device": setup.device, "dtype": setup.dtype}
    given = {key: value for key, value in common.items() if value is not None}
    given |= {key: value for key, value in placed.items() if value != "auto"}
    return load_baseline(name, **{**given, **options})


def _compared(report: Report, path: Path, items: Any, limit: int | None) -> list[Comparison]:
    """Every value of the report that has a comparison, with that of other rows."""
    from discffusion.evaluation import compare, reopen

    metrics = list(dict.fromkeys(name.partition("/")[0] for name in report.metrics))
    other = reopen(path, items, metrics, limit)
    found = []
    for name in report.metrics:
        try:
            found.append(compare(report, other, name))
        except ConfigError as error:
            print(f"discffusion: warning: not compared: {error}", file=sys.stderr)
    return found


def _show(setup: Setup, report: Report, comparisons: dict[str, list[Comparison]]) -> None:
    if setup.json:
        compared = {path: [one.to_dict() for one in found] for path, found in comparisons.items()}
        typer.echo(json.dumps({**report.to_dict(), "compared": compared}, indent=2))
        return
    typer.echo(report.table())
    for path, found in comparisons.items():
        typer.echo(f"\nless the rows in {path}:")
        for one in found:
            typer.echo(f"- {one}")
