"""Figures as the paper prints them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["PaperTable"]


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper.

    Attributes:
        columns: names of the columns, as printed.
        rows: by label, one figure a column, in percent unless `unit` says otherwise; None where there is none.
        spreads: by label, what the paper prints after "±", one a column.
        unit: of the figures.
        notes: what a reader of the paper's figures should know, such as where they disagree with another table.
    """

    columns: tuple[str, ...]
    rows: Mapping[str, tuple[float | None, ...]]
    spreads: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    unit: str = "percent"
    notes: tuple[str, ...] = ()

    def figure(self, row: str, column: str) -> float | None:
        """The figure of a row and column, or None where the paper has none."""
        if row not in self.rows or column not in self.columns:
            return None
        return self.rows[row][self.columns.index(column)]

    def spread(self, row: str, column: str) -> float | None:
        """What is printed after "±", or None."""
        if row not in self.spreads or column not in self.columns:
            return None
        return self.spreads[row][self.columns.index(column)]
