"""What reproducing a table or a figure gives: rows of values beside the paper's, and the answers to its claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from discffusion.evaluation.estimate import Estimate
    from discffusion.evaluation.record import Record
    from discffusion.reproduce.paper_table import PaperTable

__all__ = ["FAILS", "HOLDS", "IN_PART", "NOT_MEASURED", "UNDECIDED", "Cell", "Result", "Row", "Verdict"]

HOLDS = "holds"
FAILS = "does not hold"
UNDECIDED = "undecided within the intervals"
NOT_MEASURED = "not measured"
#: nothing measured contradicts the claim, and not all that it speaks of was measured
IN_PART = "not measured in full"


@dataclass(frozen=True)
class Cell:
    """A measured value: over all seeds together, and of each seed alone."""

    estimate: Estimate
    seeds: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        return {**self.estimate.to_dict(), "by_seed": list(self.seeds)}


@dataclass(frozen=True)
class Row:
    """A measured row.

    Attributes:
        label: of the paper's row that it stands for, or of its own.
        variant: how the score is set up: ``"attention"``, ``"paper"``, or "" where there is only one way.
        cells: by column.
        records: by column and seed, what the cells were measured on, for comparisons.
        absent: by column, why there is no value; ``"*"`` for all columns.
        seeds: the seeds it was measured with.
        seconds: what scoring took, whenever that was; trainings are told apart.
        about: what was run, in a few words.
    """

    label: str
    variant: str
    cells: Mapping[str, Cell] = field(default_factory=dict)
    records: Mapping[str, Mapping[int, Sequence[Record]]] = field(default_factory=dict, repr=False)
    absent: Mapping[str, str] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    seconds: float = 0.0
    about: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "label": self.label,
            "variant": self.variant,
            "values": {name: cell.to_dict() for name, cell in self.cells.items()},
            "not_measured": dict(self.absent),
            "seeds": list(self.seeds),
            "seconds": round(self.seconds, 2),
            "about": self.about,
        }


@dataclass(frozen=True)
class Verdict:
    """The measured answer to a claim of the paper."""

    claim: str
    answer: str
    detail: str = ""
    variant: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "claim": self.claim,
            "variant": self.variant,
            "answer": self.answer,
            "detail": self.detail,
        }


@dataclass
class Result:
    """One table or figure.

    Attributes:
        name, title: as ``table3``, and what it shows.
        printed: the paper's figures; None where it prints none.
        columns: names of the columns, in order.
        rows: measured, in order.
        verdicts: on the paper's claims.
        notes: sentences that a reader needs.
        gap: why nothing is measured, if so.
        plots: PNG files.
        differences: how this run differs from the paper's.
        seconds: wall time of this run for it; what was there already took none.
    """

    name: str
    title: str
    printed: PaperTable | None = None
    columns: tuple[str, ...] = ()
    rows: list[Row] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    gap: str | None = None
    plots: list[Path] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def contradicted(self) -> list[Verdict]:
        """The claims that the measurement contradicts."""
        return [verdict for verdict in self.verdicts if verdict.answer == FAILS]

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data; values in fractions, the paper's figures as printed."""
        printed = None
        if self.printed is not None:
            printed = {
                "columns": list(self.printed.columns),
                "unit": self.printed.unit,
                "rows": {label: list(values) for label, values in self.printed.rows.items()},
                "spreads": {label: list(values) for label, values in self.printed.spreads.items()},
            }
        return {
            "name": self.name,
            "title": self.title,
            "gap": self.gap,
            "paper": printed,
            "rows": [row.to_dict() for row in self.rows],
            "claims": [verdict.to_dict() for verdict in self.verdicts],
            "notes": list(self.notes),
            "differences": list(self.differences),
            "pictures": [path.name for path in self.plots],
            "seconds": round(self.seconds, 2),
        }
