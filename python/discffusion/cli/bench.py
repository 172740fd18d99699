"""``discffusion bench``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from discffusion.cli.options import Setup
from discffusion.cli.results import as_json

_WHAT = "What"
_HOW = "How"


def bench(
    setup: Setup,
    workload: Annotated[
        list[str] | None,
        typer.Option(
            "--workload",
            "-w",
            metavar="IMAGESxTEXTS",
            help="Numbers of images and texts, as 1x10; give it again for more.",
            show_default="1x1, 1x10, 2x1, 2x2; 16x16 against diffusers-batched",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="Implementations, separated by commas: released (or released-1, released-16), diffusers (or "
            "diffusers-batched, diffusers-loop), or none.",
            show_default="released,diffusers",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(
            help="Measure this alone: requests, phases, peak, memory or growth; may be repeated.",
            show_default="all",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Timesteps of a score.", rich_help_panel=_WHAT)] = 10,
    resolution: Annotated[
        int | None,
        typer.Option(min=8, help="Side of the images, pixels; default: the model's.", rich_help_panel=_WHAT),
    ] = None,
    method: Annotated[
        Literal["attention", "combined"], typer.Option(help="What is scored.", rich_help_panel=_WHAT)
    ] = "attention",
    map_: Annotated[
        Literal["logits", "probs", "cosine"],
        typer.Option(
            "--map", help="Which map is pooled; the released code knows logits.", rich_help_panel=_WHAT
        ),
    ] = "logits",
    repeats: Annotated[
        int | None,
        typer.Option(
            min=1, help="Timings of everything.", show_default="as time allows", rich_help_panel=_HOW
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="For all implementations.", show_default="torch's choice", rich_help_panel=_HOW
        ),
    ] = None,
    clock: Annotated[
        Literal["wall", "cpu"],
        typer.Option(help="cpu counts the time on all cores: for busy machines.", rich_help_panel=_HOW),
    ] = "wall",
    quick: Annotated[
        bool,
        typer.Option("--quick", help="One workload, few repeats, no memory or growth.", rich_help_panel=_HOW),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File for the report, .json or .md; or a folder for both."),
    ] = None,
) -> None:
    """Measure speed and memory against the released algorithm and against diffusers.

    All implementations score the same images and texts with the same weights, noise and threads, in turns in one
    process; that their scores agree is checked. Needs `pip install "discffusion[bench]"`, except with `--against none`.

    Example: `discffusion bench --quick`

    Example: `discffusion bench --model FOLDER -w 1x1 -w 1x10 --steps 10 --output bench`
    """
    from discffusion.bench.options import Options
    from discffusion.bench.report import check_output
    from discffusion.bench.run import bench as measure

    names = None if against is None else [name.strip() for name in against.split(",")]
    options = Options(
        workloads=workload,
        against=None if names is None else [name for name in names if name != "none"],
        parts=part,
        steps=steps,
        resolution=resolution,
        method=method,
        map=map_,
        repeats=repeats,
        threads=threads,
        clock=clock,
        quick=quick,
    )
    if output is not None:
        check_output(output)
    report = measure(
        setup.model,
        options,
        revision=setup.revision,
        variant=setup.variant,
        device=setup.device,
        dtype=setup.dtype,
        say=lambda line: print(line, file=sys.stderr, flush=True),
        # Hours may have passed when somebody stops it.
        keep=lambda report: None if output is None else report.write(output),
    )
    if output is not None:
        for file in report.write(output):
            print(f"written: {file}", file=sys.stderr)
    typer.echo(as_json(report.to_dict()) if setup.json else report.markdown())
