"""Columns of the tables: which items count in each, and by what metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from discffusion.evaluation.compare import Comparison, compare
from discffusion.evaluation.metrics import metric_named
from discffusion.evaluation.record import Record

if TYPE_CHECKING:
    from discffusion.evaluation.estimate import Estimate

__all__ = [
    "CHECKLIST",
    "COMPOSITION",
    "REFERRING",
    "VQA",
    "WINOGROUND",
    "Column",
    "averaged",
    "categories",
    "texts_of_images",
]


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: as it is headed.
        place: which data it is measured on, see :mod:`discffusion.reproduce.sources`.
        metric: name of a metric; ``"answer"`` is VQA accuracy where people's answers are known, and acc@1 elsewhere.
        value: name of the value where the metric has several.
        groups: only items of these groups count; None for all.
        view: what is done to the records before they are measured; None for nothing.
    """

    name: str
    place: str
    metric: str = "accuracy"
    value: str = ""
    groups: tuple[str, ...] | None = None
    view: Callable[[Sequence[Record]], list[Record]] | None = None

    def metric_for(self, records: Sequence[Record]) -> str:
        """The metric that these records are measured by."""
        if self.metric != "answer":
            return self.metric
        return "vqa" if all("answers" in record.meta for record in records) else "acc@1"

    def select(self, records: Sequence[Record]) -> list[Record]:
        """The records that count in it."""
        seen = list(records) if self.view is None else self.view(records)
        return [record for record in seen if self.groups is None or record.group in self.groups]

    def measure(self, records: Sequence[Record]) -> Estimate:
        """The value over records that :meth:`select` gave; they must not be empty."""
        return metric_named(self.metric_for(records))(records)[self.value]

    def compare(self, better: Sequence[Record], worse: Sequence[Record]) -> Comparison:
        """How much higher the value is over the first records than over the second, which hold the same items."""
        name = self.metric_for(better)
        return compare(better, worse, f"{name}/{self.value}" if self.value else name)


def texts_of_images(records: Sequence[Record]) -> list[Record]:
    """Each image of a record with all its texts, as VL-CheckList asks: one image, a true and a false text.

    Groups become the three of that benchmark: attribute, object (subjects too) and relation. Items with one text are
    left out.
    """
    names = {"attribute": "Attribute", "subject": "Object", "object": "Object", "predicate": "Relation"}
    made = []
    for record in records:
        for index in range(record.scores.shape[0]) if record.scores.shape[1] > 1 else ():
            row = slice(index, index + 1)
            made.append(
                replace(
                    record,
                    key=f"{record.key}/{index}",
                    scores=record.scores[row],
                    match=record.match[row],
                    images=record.images[row],
                    probabilities=None if record.probabilities is None else record.probabilities[row],
                    group=names.get(record.group or "", record.group),
                )
            )
    return made


def categories(of: Callable[[Record], str]) -> Callable[[Sequence[Record]], list[Record]]:
    """A view that regroups records by what `of` says of each."""
    return lambda records: [replace(record, group=of(record)) for record in records]


def averaged(columns: Sequence[Column]) -> tuple[Column, ...]:
    """The columns, with All under the name that some tables give it: Average."""
    return tuple(replace(column, name="Average") if column.name == "All" else column for column in columns)


def _top(records: Sequence[Record]) -> list[Record]:
    """VL-CheckList's items as they are; those of a stand-in made into its form."""
    if any(np.shape(record.match)[0] > 1 for record in records):
        return texts_of_images(records)
    return list(records)


#: the attribute column is of the stand-in alone: ComVG has no such kind
COMPOSITION: tuple[Column, ...] = (
    Column("Subjects", "composition", groups=("subject",)),
    Column("Objects", "composition", groups=("object",)),
    Column("Attributes", "composition", groups=("attribute",)),
    Column("Predicate", "composition", groups=("predicate",)),
    Column("All", "composition"),
)
REFERRING: tuple[Column, ...] = (
    Column("Top-1 Acc.", "referring", "acc@1"),
    Column("Top-5 Acc.", "referring", "acc@5"),
)
VQA: tuple[Column, ...] = (
    Column("VQA Binary", "vqa", "answer", groups=("binary",)),
    Column("VQA Other", "vqa", "answer", groups=("other",)),
    Column("VQA All", "vqa", "answer"),
)
WINOGROUND: tuple[Column, ...] = (
    Column("Text", "winoground", "winoground", "text"),
    Column("Image", "winoground", "winoground", "image"),
    Column("Group", "winoground", "winoground", "group"),
)
CHECKLIST: tuple[Column, ...] = tuple(
    Column(name, "checklist", "tree", value, view=_top)
    for name, value in (
        ("Attribute", "Attribute"),
        ("Object", "Object"),
        ("Relation", "Relation"),
        ("Average", "average"),
    )
)
