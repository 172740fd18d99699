"""Results as markdown: the paper's figures above the measured ones, row by row."""

from __future__ import annotations

from collections.abc import Sequence

from discffusion import _markdown
from discffusion.reproduce.paper_table import PaperTable
from discffusion.reproduce.result import Cell, Result, Row

__all__ = ["section", "table"]


def section(result: Result) -> str:
    """A table or figure in full, as markdown with a heading."""
    parts = [f"## {_numbered(result.name)}: {result.title}"]
    if result.gap:
        parts.append(f"**Not measured: {result.gap}**")
    if result.differences:
        parts.append("How this differs from the paper: " + "; ".join(result.differences) + ".")
    if result.columns:
        parts.append(table(result))
    parts += [f"![{_numbered(result.name)}]({path.name})" for path in result.plots]
    if result.verdicts:
        parts.append(_claims(result))
    notes = [*(result.printed.notes if result.printed else ()), *result.notes, *_absences(result.rows)]
    if notes:
        parts.append("\n".join(f"- {note}" for note in notes))
    if result.gap is None:
        parts.append(_footer(result))
    return "\n\n".join(parts) + "\n"


def table(result: Result) -> str:
    """The rows: what the paper prints in one line, what was measured in the lines below it."""
    unit = "percent" if result.printed is None else result.printed.unit
    # a column of seconds where something was measured
    lines = [["row", "", *result.columns, *(["s"] if result.rows else [])]]
    # in the order in which rows were measured, the paper's others after them
    printed = result.printed.rows if result.printed else ()
    for label in dict.fromkeys([*(row.label for row in result.rows), *printed]):
        of_label = []
        if label in printed:
            of_label.append(["paper", *(_printed(result, label, column) for column in result.columns), ""])
        for row in result.rows:
            if row.label == label:
                values = [_measured(row, column) for column in result.columns]
                of_label.append([_kind(row), *values, f"{row.seconds:.0f}" if row.seconds else ""])
        lines += [[label if number == 0 else "", *line] for number, line in enumerate(of_label)]
    head, *body = [line[: len(lines[0])] for line in lines]
    text = _markdown.table(head, body)
    if unit == "percent":
        unit = "In percent."
        if result.rows:
            unit = "In percent, measured values with 95 % intervals; s: seconds that scoring the row took."
    return f"{unit}\n\n{text}"


def _kind(row: Row) -> str:
    return f"measured, {row.variant}" if row.variant else "measured"


def _printed(result: Result, label: str, column: str) -> str:
    assert result.printed is not None
    value, spread = result.printed.figure(label, column), result.printed.spread(label, column)
    if value is None:
        return "—"
    text = f"{value:.{_decimals(result.printed)}f}"
    return text if spread is None else f"{text} ± {spread:g}"


def _decimals(printed: PaperTable) -> int:
    """With how many decimals the paper prints this table."""
    figures = [value for values in printed.rows.values() for value in values if value is not None]
    return next((n for n in (0, 1) if all(round(value, n) == value for value in figures)), 2)


def _measured(row: Row, column: str) -> str:
    cell = row.cells.get(column)
    if cell is None:
        return "not run" if not row.cells else "—"
    return _cell(cell)


def _cell(cell: Cell) -> str:
    value = cell.estimate
    text = f"{100 * value.value:.1f} ({100 * value.low:.1f}–{100 * value.high:.1f})"
    if len(cell.seeds) > 1:
        text += f" [seeds {100 * min(cell.seeds):.1f} to {100 * max(cell.seeds):.1f}]"
    return text


def _claims(result: Result) -> str:
    lines = ["What the paper claims, and what was measured:"]
    for verdict in result.verdicts:
        where = f" ({verdict.variant})" if verdict.variant else ""
        detail = f" — {verdict.detail}" if verdict.detail else ""
        lines.append(f"- {verdict.claim}{where}: **{verdict.answer}**{detail}")
    return "\n".join(lines)


def _absences(rows: Sequence[Row]) -> list[str]:
    """Why rows or cells are empty, a sentence each."""
    by_reason: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        for column, why in row.absent.items():
            by_reason.setdefault(why, []).append((row.label, column))
    asked = {row.label for row in rows if "*" not in row.absent}
    sentences = []
    for why, places in by_reason.items():
        labels, columns = (list(dict.fromkeys(names)) for names in zip(*places, strict=True))
        # what no row has is the column's fault
        of = columns if asked <= set(labels) and "*" not in columns else labels
        sentences.append(f"Not measured, {', '.join(of)}: {why}")
    return sentences


def _footer(result: Result) -> str:
    items = [cell.estimate.groups for row in result.rows for cell in row.cells.values()]
    ties = sum(cell.estimate.ties for row in result.rows for cell in row.cells.values())
    seeds = sorted({seed for row in result.rows for seed in row.seeds})
    parts = [f"{result.seconds:.0f} s of this run"]
    scoring = sum(row.seconds for row in result.rows)
    if scoring:
        parts.append(f"{scoring:.0f} s of scoring in all, rows shared with other tables included")
    if seeds:
        parts.append(f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}")
    if items:
        low, high = min(items), max(items)
        parts.append(f"independent image groups a value: {low if low == high else f'{low} to {high}'}")
        parts.append(f"ties, none of them in favour: {ties}")
    return "; ".join(parts) + "."


def _numbered(name: str) -> str:
    """``table3`` as ``Table 3``."""
    for kind in ("table", "figure"):
        if name.startswith(kind):
            return f"{kind.capitalize()} {name[len(kind) :]}"
    return name
