"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["cell", "table"]


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = (), *, padded: bool = True
) -> str:
    """A table; a heading, a rule and a line for each row.

    Args:
        head: names of the columns.
        rows: as many cells each, as they are to be shown; see :func:`cell` for text from elsewhere.
        right: columns, by their names, that are aligned to the right.
        padded: whether cells are filled with spaces, so that columns line up as plain text too.
    """
    lines = [list(head), *map(list, rows)]
    longest = [max(len(line[column]) for line in lines) for column in range(len(head))]
    widths = longest if padded else [0] * len(head)
    rule = [
        "-" * max(width - 1, 3) + ":" if name in right else "-" * (width or 3)
        for name, width in zip(head, widths, strict=True)
    ]
    return "\n".join(
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |"
        for line in (lines[0], rule, *lines[1:])
    )


def cell(value: Any) -> str:
    """Any value as the text of a cell; empty for None."""
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")
