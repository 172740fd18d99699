"""The result of an evaluation: values with intervals, as a table, a data frame, JSON or a plot."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from discffusion._extras import need
from discffusion._files import write_text
from discffusion._identity import header
from discffusion.errors import ConfigError
from discffusion.evaluation import reliability, tables
from discffusion.evaluation.estimate import Estimate
from discffusion.evaluation.metrics import metric_named
from discffusion.evaluation.record import Record, ordered

if TYPE_CHECKING:
    from discffusion.calibration import Reliability

__all__ = ["Report"]

#: of :meth:`Report.to_dict`
FORMAT = 1


class Report:
    """What was measured on the scored items. ``report["accuracy"]`` is an :class:`Estimate`.

    A metric with several values names them ``"winoground/text"``. Two reports are equal when their numbers and
    settings are, whatever the order in which the items were scored and wherever the rows are.

    Attributes:
        metrics: the names of all values.
        n_expected: items that the dataset's annotations hold.
        n_scored: items that the values are measured on.
        missing: references of images that were not found, where that was allowed.
        settings: what identifies the run, plain data; with ``"probability"``, the curve of the scorer's calibration, if
            it has one.
        notes: sentences that belong beside the values.
        rows_path: the file of result rows, or None.
        records: the scored items, in the order of their keys.
        made_by: what the scorer says of itself, with its device and versions, and ``images_sha256``, a digest of all
            images; empty if not known.
    """

    def __init__(
        self,
        values: Mapping[str, Estimate],
        groups: Mapping[str, Mapping[str, Estimate]],
        records: Sequence[Record],
        *,
        settings: Mapping[str, Any],
        n_expected: int,
        missing: Sequence[str],
        notes: Sequence[str],
        rows_path: Path | None,
        made_by: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._values, self._groups = dict(values), {name: dict(of) for name, of in groups.items()}
        self.records = list(records)
        self.settings, self.made_by = dict(settings), dict(made_by)
        self.n_expected, self.n_scored = n_expected, len(self.records)
        self.missing, self.notes, self.rows_path = tuple(missing), tuple(notes), rows_path

    @classmethod
    def from_records(
        cls,
        records: Iterable[Record],
        metrics: Sequence[str],
        *,
        settings: Mapping[str, Any],
        n_expected: int | None = None,
        missing: Sequence[str] = (),
        notes: Sequence[str] = (),
        rows_path: str | os.PathLike[str] | None = None,
        made_by: Mapping[str, Any] = MappingProxyType({}),
    ) -> Report:
        """Measures scored items, in any order.

        Args:
            records: the scored items.
            metrics: names, see :func:`discffusion.evaluation.metrics.metric_names`; not ``"auto"``.
            settings: what identifies the run, plain data for JSON. Reports with other settings are not equal, so
                nothing that changes from run to run belongs here.
            n_expected: items that the annotations hold; as many as `records` if None.
            missing: references of images that were not found.
            notes: sentences to show beside the values, such as what is known of the dataset.
            rows_path: where the rows are.
            made_by: what the scorer says of itself and where it ran; it makes no difference to equality.

        Raises:
            ConfigError: a metric is unknown or does not apply, there are no records, or two have the same key.
        """
        in_order = ordered(records)
        by_group: dict[str, list[Record]] = defaultdict(list)
        for record in in_order:
            if record.group is not None:
                by_group[record.group].append(record)
        values: dict[str, Estimate] = {}
        groups: dict[str, dict[str, Estimate]] = defaultdict(dict)
        said = list(notes)
        for name in dict.fromkeys(metrics):
            metric = metric_named(name)
            measured = metric.measure(in_order)
            values |= {_full(name, part): value for part, value in measured.values.items()}
            said += measured.notes
            for group in sorted(by_group) if metric.by_group else ():
                try:
                    of_group = metric(by_group[group])
                except ConfigError:  # it applies to the whole and not to this part
                    continue
                for part, value in of_group.items():
                    groups[_full(name, part)][group] = value
        return cls(
            values,
            groups,
            in_order,
            settings=settings,
            n_expected=len(in_order) if n_expected is None else n_expected,
            missing=missing,
            notes=list(dict.fromkeys(said)),
            rows_path=None if rows_path is None else Path(rows_path),
            made_by=made_by,
        )

    @property
    def metrics(self) -> list[str]:
        """The names of all values, in the order they were asked for."""
        return list(self._values)

    def __getitem__(self, name: str) -> Estimate:
        """The value of this name over all items.

        Raises:
            ConfigError: there is none; the message lists all.
        """
        if name not in self._values:
            raise ConfigError(f"the report has no {name!r}; it has: {', '.join(self._values)}")
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def group(self, name: str) -> dict[str, Estimate]:
        """The value of this name in each group of items; empty if the items have no groups.

        Raises:
            ConfigError: there is no such value; the message lists all.
        """
        self[name]
        return dict(self._groups.get(name, {}))

    def rows(self) -> list[tuple[str, str | None, Estimate]]:
        """Every value: its name, its group (None: all items) and the estimate."""
        return [
            row
            for name, value in self._values.items()
            for row in [(name, None, value), *((name, group, of) for group, of in self.group(name).items())]
        ]

    def shown(self) -> list[tuple[str, str | None, Estimate]]:
        """:meth:`rows` as tables have them: where all items are of one group, its values are the same and said once."""
        single = len({record.group for record in self.records}) == 1
        return [row for row in self.rows() if not (single and row[1] is not None)]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Report) and self._facts() == other._facts()

    __hash__ = None  # type: ignore[assignment]  # its settings are a dict

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {value}" for name, value in list(self._values.items())[:3])
        return f"Report({self.n_scored} of {self.n_expected} items: {shown})"

    def __str__(self) -> str:
        return self.table()

    def table(self) -> str:
        """A markdown table in percent with intervals, preceded by what was scored and followed by the notes."""
        return tables.markdown(self)

    def _repr_html_(self) -> str:
        return tables.html(self)

    def _facts(self) -> dict[str, Any]:
        return {
            "settings": self.settings,
            "n_expected": self.n_expected,
            "n_scored": self.n_scored,
            "missing": list(self.missing),
            "values": [
                {"metric": name, "group": group, **value.to_dict()} for name, group, value in self.rows()
            ],
            "notes": list(self.notes),
        }

    def to_dict(self) -> dict[str, Any]:
        """All of it but the records as plain data, and all that is needed to repeat it.

        ``values`` has one entry per value and group, in fractions; ``reliability``, where the scorer has probabilities,
        one per bin of :meth:`reliability`. ``format`` is raised when a name goes away or means something else.
        """
        known = all(record.probabilities is not None for record in self.records)
        return {
            **header(FORMAT, self.made_by),
            **self._facts(),
            **({"reliability": reliability.as_rows(self.reliability())} if known else {}),
            "rows_path": None if self.rows_path is None else str(self.rows_path),
        }

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """:meth:`to_dict` as JSON; also written to a file if `path` is given."""
        text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        if path is not None:
            write_text(Path(path), text)
        return text

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame`` with one row per value and group, in fractions; group is None for all items.

        Raises:
            InstallationError: pandas is not installed.
        """
        pandas = need("pandas", extra="data")
        return pandas.DataFrame(self._facts()["values"])

    def plot(self, ax: Any = None) -> Any:
        """Every value as a point with its interval, in percent.

        Args:
            ax: matplotlib Axes to draw on; a new figure's if None.

        Returns:
            The Axes; nothing is shown.

        Raises:
            InstallationError: matplotlib is not installed.
        """
        return tables.plot(self, ax)

    def reliability(self, bins: int = 10, *, equal_mass: bool = False) -> Reliability:
        """How often pairs of a probability match, in bins of probability, over all pairs of all items.

        Args:
            bins: 1 or more.
            equal_mass: whether bins hold equally many pairs; they are equally wide otherwise.

        Raises:
            ConfigError: the scorer has no calibration of these scores, and so no probabilities.
        """
        return reliability.reliability_of(self.records, bins, equal_mass)

    def plot_reliability(self, ax: Any = None, bins: int = 10, *, equal_mass: bool = False) -> Any:
        """The reliability diagram: a dot a bin, its area by the pairs in it; right probabilities lie on the diagonal.

        Args:
            ax: matplotlib Axes to draw on; a new figure's if None.
            bins, equal_mass: as of :meth:`reliability`.

        Returns:
            The Axes; nothing is shown.

        Raises:
            ConfigError: the scorer has no calibration of these scores.
            InstallationError: matplotlib is not installed.
        """
        return reliability.plot(self.reliability(bins, equal_mass=equal_mass), ax)


def _full(metric: str, part: str) -> str:
    return f"{metric}/{part}" if part else metric
