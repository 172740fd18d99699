"""What a table or a figure of the paper is here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from discffusion.reproduce.result import Result

if TYPE_CHECKING:
    from discffusion.reproduce.paper_table import PaperTable
    from discffusion.reproduce.runner import ExperimentRunner

__all__ = ["Experiment"]


@dataclass(frozen=True)
class Experiment:
    """A table or a figure.

    Attributes:
        name: as it is asked for, ``table3``.
        title: what it shows.
        paper: what the paper measured it on.
        printed: the paper's figures; None where it prints none.
        run: measures it; None where that cannot be done yet, and `gap` says why.
        gap: what is missing.
        partly: what of the paper's is missing though the rest is measured; None for nothing.
    """

    name: str
    title: str
    paper: str
    printed: PaperTable | None = None
    run: Callable[[ExperimentRunner], Result] | None = None
    gap: str | None = None
    partly: str | None = None

    def result(self, runner: ExperimentRunner) -> Result:
        """Measures it, or says what is missing."""
        if self.run is None:
            columns = self.printed.columns if self.printed else ()
            return Result(self.name, self.title, self.printed, columns, gap=self.gap)
        return self.run(runner)
