"""The command ``discffusion``: results on stdout, progress and errors on stderr.

Exit status 0, 2 for a usage error, 1 for anything else with one line on stderr.
"""

from __future__ import annotations

import sys
import warnings
from typing import Annotated, Any

import typer

import discffusion
from discffusion.cli.bench import bench
from discffusion.cli.demo import demo
from discffusion.cli.eval import evaluate
from discffusion.cli.info import info
from discffusion.cli.options import option_rows, plain, scoring, training_rows
from discffusion.cli.rank import rank
from discffusion.cli.reproduce import reproduce
from discffusion.cli.score import score
from discffusion.cli.train import train

__all__ = ["build_app", "main"]

# commands that have the options of a score
_SCORING = ("score", "rank", "train", "eval", "demo")


def main() -> None:
    """Runs the command line of this process."""
    warnings.showwarning = _one_line
    # A command can only run if its name was typed; without one, the core need not be loaded for its options.
    build_app(with_options=any(name in sys.argv[1:] for name in _SCORING))(prog_name="discffusion")


def build_app(*, with_options: bool = True) -> typer.Typer:
    """The application; without the options of a score where only help on the whole is wanted."""
    app = typer.Typer(
        help="How well do images and texts match, by a text-to-image diffusion model?",
        epilog="`discffusion COMMAND --help` tells more.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    rows = option_rows() if with_options else []
    app.command("score")(scoring(score, rows))
    app.command("rank")(scoring(rank, rows))
    app.command("train")(scoring(train, rows, training_rows() if with_options else []))
    app.command("eval")(scoring(evaluate, rows))
    app.command("reproduce")(plain(reproduce))
    app.command("bench")(plain(bench))
    app.command("demo")(scoring(demo, rows))
    app.command("info")(plain(info))
    return app


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(discffusion.__version__)
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


def _one_line(message: Any, *_: Any, **__: Any) -> None:
    print(f"discffusion: warning: {message}", file=sys.stderr)
