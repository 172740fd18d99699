"""The command ``discffusion``: results on stdout, progress and errors on stderr.

Exit status 0, 2 for a usage error, 1 for anything else, both with one line on stderr.
"""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Annotated

import typer

import discffusion
from discffusion.cli import words
from discffusion.cli.bench import bench
from discffusion.cli.calibrate import calibrate
from discffusion.cli.demo import demo
from discffusion.cli.eval import evaluate
from discffusion.cli.explain import explain
from discffusion.cli.generate import generate
from discffusion.cli.group import CoreCommand, Program
from discffusion.cli.info import info
from discffusion.cli.options import generating, option_rows, plain, scoring
from discffusion.cli.rank import rank
from discffusion.cli.reproduce import reproduce
from discffusion.cli.results import warn
from discffusion.cli.score import score
from discffusion.cli.score_shards import score_shards
from discffusion.cli.train import train

__all__ = ["build_app", "main"]

# commands that have options of the core
_OF_CORE = ("score", "rank", "explain", "score-shards", "calibrate", "train", "eval", "generate", "demo")


def main() -> None:
    """Runs the command line of this process."""
    warnings.showwarning = lambda message, *_, **__: warn(words.spoken(str(message), words.now))
    logging.getLogger("discffusion").addHandler(_Lines())
    # A command can only run if its name was typed; without one, the core need not be loaded for its options.
    build_app(with_options=any(name in sys.argv[1:] for name in _OF_CORE))(prog_name="discffusion")


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        warn(words.spoken(record.getMessage(), words.now))


def build_app(*, with_options: bool = True) -> typer.Typer:
    """The application; without the core's options where only help on the whole is wanted."""
    app = typer.Typer(
        help="How well do images and texts match, by a text-to-image diffusion model?",
        epilog="`discffusion COMMAND --help` tells more.",
        no_args_is_help=True,
        cls=Program,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    rows = option_rows() if with_options else []
    app.command("score", cls=CoreCommand)(scoring(score, rows))
    app.command("rank", cls=CoreCommand)(scoring(rank, rows))
    app.command("explain", cls=CoreCommand)(scoring(explain, rows))
    app.command("score-shards", cls=CoreCommand)(scoring(score_shards, rows))
    app.command("calibrate", cls=CoreCommand)(scoring(calibrate, rows))
    app.command("train", cls=CoreCommand)(scoring(train, rows, option_rows("train") if with_options else []))
    app.command("eval", cls=CoreCommand)(scoring(evaluate, rows))
    app.command("generate", cls=CoreCommand)(
        generating(generate, option_rows("generate") if with_options else [])
    )
    app.command("reproduce", cls=CoreCommand)(plain(reproduce))
    app.command("bench", cls=CoreCommand)(plain(bench))
    app.command("demo", cls=CoreCommand)(scoring(demo, rows))
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
