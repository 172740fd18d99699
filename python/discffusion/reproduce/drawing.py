"""Pictures of figures, as PNG files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from discffusion._extras import need
from discffusion.reproduce.result import Cell

__all__ = ["curves", "picture"]

#: colour-blind safe, in order
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def picture(path: Path, draw: Callable[[Any], None], size: tuple[float, float] = (6.0, 4.0)) -> Path:
    """Writes what `draw` puts on a matplotlib Figure; no window, and no state that other plots share.

    Raises:
        InstallationError: matplotlib is not installed.
    """
    figure = need("matplotlib.figure", "plot").Figure(figsize=size, layout="constrained", dpi=150)
    draw(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.tmp")
    try:
        figure.savefig(part, format="png")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def curves(
    axes: Any,
    lines: Mapping[str, Sequence[tuple[float, Cell]]],
    xlabel: str,
    ylabel: str,
    ticks: Sequence[Any] = (),
) -> None:
    """Values in percent with their intervals, a curve each.

    Args:
        lines: by name, places on the axis with their values.
        ticks: names of the places 0, 1, …, where these are no numbers.
    """
    for colour, (name, points) in zip(COLOURS, lines.items(), strict=False):
        xs = [x for x, _ in points]
        values = [cell.estimate for _, cell in points]
        below = [100 * (value.value - value.low) for value in values]
        above = [100 * (value.high - value.value) for value in values]
        axes.errorbar(
            xs, [100 * value.value for value in values], [below, above],
            marker="o", capsize=3, color=colour, label=name,
        )  # fmt: skip
    if ticks:
        axes.set_xticks(range(len(ticks)), [str(tick) for tick in ticks])
    else:
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(alpha=0.3)
    axes.legend()
