"""Values with intervals as curves: accuracy by layers, heads or timesteps (Figures 3 to 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from discffusion.plot.figure import COLOURS

if TYPE_CHECKING:
    from discffusion.evaluation.estimate import Estimate

__all__ = ["curves"]


def curves(
    axes: Any,
    lines: Mapping[str, Sequence[tuple[float, Estimate]]],
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
        values = [value for _, value in points]
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
