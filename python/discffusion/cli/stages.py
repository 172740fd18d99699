"""The options of staged elimination."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

Stages = Annotated[
    str | None,
    typer.Option(
        help="Numbers of timesteps after which low-scoring candidates are eliminated, as 4,12,50.",
        rich_help_panel="Score",
    ),
]
Keep = Annotated[
    str | None,
    typer.Option(
        help="Share of candidates that each stage but the last keeps, or one for each, as 0.3,0.5.",
        rich_help_panel="Score",
    ),
]


def staging(stages: str | None, keep: str | None) -> dict[str, Any]:
    """Both options as the arguments of the same names."""
    counts, shares = _numbers("--stages", stages, int), _numbers("--keep", keep, float)
    if keep is not None and stages is None:
        raise typer.BadParameter("--keep goes with --stages")
    return {"stages": counts, "keep": shares[0] if shares is not None and len(shares) == 1 else shares}


def _numbers(flag: str, text: str | None, kind: Callable[[str], Any]) -> list[Any] | None:
    if text is None:
        return None
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{flag} is {text!r}; expected numbers separated by commas") from None
