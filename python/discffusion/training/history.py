"""What happened in a run, as a table."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

from discffusion._files import write_text
from discffusion.errors import InstallationError

__all__ = ["History"]


class History(Sequence[dict[str, Any]]):
    """The rows of a run in order, plain dicts; ``history["loss"]`` is a column.

    A row is an optimiser step or a validation. A step has ``step`` (from 1), ``epoch`` (from 1), ``loss``,
    ``temperature``, ``learning_rate``, ``gradient_norm`` (before clipping), ``active`` (share of matching pairs whose
    loss is not zero), ``rows`` and ``backward_rows`` (evaluations of the network, forward and backward). A validation
    has ``step`` and ``epoch`` (those done so far), ``accuracy`` (share of comparisons won), ``comparisons`` and
    ``ties``, which are not won.
    """

    def __init__(self, rows: Iterable[dict[str, Any]] = ()) -> None:
        self._rows = list(rows)
        self._validations = [row for row in self._rows if "accuracy" in row]

    def append(self, row: dict[str, Any]) -> None:
        """Adds a row at the end."""
        self._rows.append(row)
        if "accuracy" in row:
            self._validations.append(row)

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The rows of optimiser steps."""
        return [row for row in self._rows if "loss" in row]

    @property
    def validations(self) -> list[dict[str, Any]]:
        """The rows of validations."""
        return list(self._validations)

    @property
    def best(self) -> dict[str, Any] | None:
        """The validation of the highest accuracy, the first of equals."""
        return max(self._validations, key=lambda row: float(row["accuracy"]), default=None)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    @overload
    def __getitem__(self, index: str) -> list[Any]: ...
    def __getitem__(self, index: int | slice | str) -> Any:
        if isinstance(index, str):
            return [row[index] for row in self._rows if index in row]
        return self._rows[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self._rows == other._rows

    __hash__ = None  # type: ignore[assignment]  # it grows

    def __repr__(self) -> str:
        steps, best = self.steps, self.best
        loss = f", loss {steps[0]['loss']:.4g} to {steps[-1]['loss']:.4g}" if steps else ""
        accuracy = f", best accuracy {best['accuracy']:.4g} at step {best['step']}" if best else ""
        return f"History({len(steps)} steps{loss}{accuracy})"

    def columns(self) -> list[str]:
        """The names of all columns, in the order of their first row."""
        return list(dict.fromkeys(name for row in self._rows for name in row))

    def plot(self, ax: Any = None) -> Any:
        """The loss of every step with its running mean, and the validations (Figure 6).

        Args:
            ax: matplotlib Axes to draw on; a new figure's if None.

        Returns:
            The Axes.

        Raises:
            InstallationError: matplotlib is not installed.
        """
        from discffusion.plot.figure import axes_or_new
        from discffusion.plot.losses import losses

        ax = axes_or_new(ax)
        checked = [row["step"] for row in self._validations], [row["accuracy"] for row in self._validations]
        steps = self.steps
        run = {"": ([row["step"] for row in steps], [row["loss"] for row in steps])} if steps else {}
        losses(ax, run, validations=checked if self._validations else None)
        return ax

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame``; what a row lacks is NaN.

        Raises:
            InstallationError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise InstallationError("to_pandas needs pandas: pip install pandas") from None
        return pandas.DataFrame(self._rows)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The rows as a JSON list; also written to a file if `path` is given."""
        return _written(json.dumps(self._rows, indent=1), path)

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str:
        """The rows as comma-separated values with a header; also written to a file if `path` is given."""
        text = io.StringIO()
        table = csv.DictWriter(text, self.columns(), lineterminator="\n")
        table.writeheader()
        table.writerows(self._rows)
        return _written(text.getvalue(), path)


def _written(text: str, path: str | os.PathLike[str] | None) -> str:
    if path is not None:
        write_text(Path(path), text)
    return text
