"""The loss in training (Figure 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion.plot.figure import COLOURS

__all__ = ["losses", "smooth"]


def smooth(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Running mean over `width` values, as many as there are at the ends."""
    kernel = np.ones(width)
    mean: NDArray[np.float64] = np.convolve(values, kernel, "same") / np.convolve(
        np.ones(len(values)), kernel, "same"
    )
    return mean


def losses(
    axes: Any,
    runs: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    ylabel: str = "loss",
    validations: tuple[Sequence[float], Sequence[float]] | None = None,
) -> None:
    """The loss of every step, pale, and its running mean over a fifteenth of the steps.

    Args:
        runs: by name, the steps and their losses.
        validations: steps and the shares of comparisons won there, drawn against an axis on the right.
    """
    for colour, (name, (steps, values)) in zip(COLOURS, runs.items(), strict=False):
        axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
        mean = smooth(np.asarray(values, dtype=np.float64), max(1, len(values) // 15))
        axes.plot(steps, mean, color=colour, label=f"{name}, smoothed" if name else "loss, smoothed")
    axes.set_xlabel("step")
    axes.set_ylabel(ylabel)
    axes.grid(alpha=0.3)
    handles, labels = axes.get_legend_handles_labels()
    if validations is not None:
        beside = axes.twinx()
        steps, shares = validations
        (line,) = beside.plot(
            steps, [100 * share for share in shares],
            marker="s", linestyle="--", color=COLOURS[1], label="validation",
        )  # fmt: skip
        beside.set_ylabel("comparisons won (%)")
        handles, labels = [*handles, line], [*labels, "validation"]
    axes.legend(handles, labels)
