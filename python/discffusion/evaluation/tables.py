"""A report as text, as HTML and as a plot."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from discffusion import _markdown
from discffusion._identity import in_words
from discffusion.plot.figure import COLOURS, axes_or_new

if TYPE_CHECKING:
    from discffusion.evaluation.estimate import Estimate
    from discffusion.evaluation.report import Report

__all__ = ["html", "markdown", "plot"]

_COLUMNS = ("metric", "group", "value %", "95 % interval", "n", "ties", "interval by")
_SCORES = tuple("value" if column == "value %" else column for column in _COLUMNS)


def _head(report: Report) -> list[str]:
    """What was scored, and by what."""
    name = report.settings.get("dataset")
    named = f"{name}: " if isinstance(name, str) else ""
    text = f"{named}{report.n_scored} of {report.n_expected} items scored"
    if report.missing:
        more = f" and {len(report.missing) - 3} more" if len(report.missing) > 3 else ""
        text += f"; {len(report.missing)} images missing ({', '.join(report.missing[:3])}{more})"
    scored = in_words(report.settings)
    return [text, *([f"scored by {scored}"] if scored else [])]


def _columns(report: Report) -> tuple[str, ...]:
    """The heads; where a value is no share, each share says that it is one."""
    return _COLUMNS if all(value.unit == "share" for _, _, value in report.rows()) else _SCORES


def _number(value: float, unit: str, columns: tuple[str, ...]) -> str:
    if unit == "score":
        return f"{value:.4f}"
    return f"{value * 100:.2f}" + ("" if columns is _COLUMNS else " %")


def _cells(columns: tuple[str, ...], name: str, group: str | None, value: Estimate) -> tuple[str, ...]:
    shown, low, high = (
        _number(number, value.unit, columns) for number in (value.value, value.low, value.high)
    )
    return (
        name,
        "all" if group is None else group,
        shown,
        f"{low} to {high}",
        str(value.n),
        str(value.ties),
        value.method if value.groups == value.n else f"{value.method}, {value.groups} image groups",
    )


def markdown(report: Report) -> str:
    """The report as markdown: what was scored, the table, the notes."""
    columns = _columns(report)
    body = [tuple(map(_markdown.cell, _cells(columns, *row))) for row in report.shown()]
    notes = [f"- {note}" for note in report.notes]
    table = _markdown.table(columns, body)
    return "\n".join([*_head(report), "", table, *([""] if notes else []), *notes])


def html(report: Report) -> str:
    """The report as an HTML table, for notebooks."""

    def row(cells: tuple[str, ...], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    columns = _columns(report)
    body = "".join(row(_cells(columns, *line), "td") for line in report.shown())
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
    head = "<br>".join(map(escape, _head(report)))
    return f"<p>{head}</p><table><thead>{row(columns, 'th')}</thead><tbody>{body}</tbody></table>" + (
        f"<ul>{notes}</ul>" if notes else ""
    )


def plot(report: Report, ax: Any = None) -> Any:
    """Every value of the report with its interval, in percent, on matplotlib Axes; scores if there is nothing else."""
    shown = report.shown()
    lines = [line for line in shown if line[2].unit == "share"] or shown
    percent = lines[0][2].unit == "share"
    scale = 100 if percent else 1
    ax = axes_or_new(ax, (7.0, 1 + 0.3 * len(lines)))
    for place, (_, _, value) in enumerate(lines):
        middle = value.value * scale
        ends = [[middle - value.low * scale], [value.high * scale - middle]]
        ax.errorbar([middle], [place], xerr=ends, fmt="o", color=COLOURS[0], capsize=3)
    ax.set_yticks(range(len(lines)), [f"{name}, {group}" if group else name for name, group, _ in lines])
    ax.invert_yaxis()
    ax.set_xlabel(f"{'%' if percent else 'score'} with 95 % interval")
    return ax
