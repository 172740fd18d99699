"""The commands as one program, whose every error is one line on stderr."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from discffusion.errors import InstallationError

__all__ = ["CoreCommand", "Program"]


class Program(TyperGroup):
    """A usage error is said in one line, without the frame that Typer draws."""

    def main(self, *args: Any, standalone_mode: bool = True, **more: Any) -> Any:
        if not standalone_mode:
            return super().main(*args, **{**more, "standalone_mode": False})
        try:
            status = super().main(*args, **{**more, "standalone_mode": False})
        except typer.Abort:
            print("discffusion: aborted", file=sys.stderr)
            status = 1
        except Exception as error:
            if not hasattr(error, "format_message"):  # what Typer raises of wrong usage
                raise
            status = _say(error)
        sys.exit(status if isinstance(status, int) else 0)


def _say(error: Any) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":  # making it has shown the help
        return 2
    message = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    program = "discffusion" if context is None else context.command_path
    print(f"discffusion: {message}; see {program} --help", file=sys.stderr)
    return int(error.exit_code)


class CoreCommand(TyperCommand):
    """A command that cannot run without the core. Where that does not load, nothing else is said of what was typed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        problem = self.problem()
        if problem is None:
            return super().parse_args(ctx, args)
        print(f"discffusion: {' '.join(str(problem).split())}", file=sys.stderr)
        if any(name in args for name in ctx.help_option_names):
            return super().parse_args(ctx, ["--help"])
        raise typer.Exit(1)

    @staticmethod
    def problem() -> InstallationError | None:
        """Why the core does not load, or None."""
        from discffusion import _native

        try:
            _native.core()
        except InstallationError as error:
            return error
        return None
