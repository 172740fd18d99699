"""Items that lack what they need: they are left out and counted, and must not cost the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from discffusion.data.files import field
from discffusion.errors import DatasetError

__all__ = ["LeftOut", "NoImageError", "NoTextError", "is_blank", "text_field"]

Row = TypeVar("Row")
#: how many of the items left out are named in a note
_NAMED = 3


class NoTextError(DatasetError):
    """A record lacks a text of its item: it is null, or nothing but white space."""


class NoImageError(DatasetError):
    """A record names no image, and holds none."""


class LeftOut:
    """Items without a text, or without an image where that is allowed, and how that is told.

    Args:
        name: of the dataset, for messages.
        root: folder that is not repeated in notes.
        allow_missing: whether an item may lack its image.
    """

    def __init__(self, name: str, root: Path | None = None, allow_missing: bool = False) -> None:
        self._name, self._root = name, root
        self._kinds = (NoTextError, NoImageError) if allow_missing else (NoTextError,)
        self._lack = dict[str, None]()
        self.reasons: list[str] = []

    def __len__(self) -> int:
        return len(self.reasons)

    @contextmanager
    def unless_whole(self, counts: bool = True) -> Iterator[None]:
        """What is done inside is given up where something is missing.

        Args:
            counts: whether the item would have been one of the dataset.
        """
        try:
            yield
        except self._kinds as error:
            if counts:
                self._lack.setdefault("an image" if isinstance(error, NoImageError) else "a text")
                self.reasons.append(str(error))

    def with_texts(
        self, rows: Iterable[Row], where: Callable[[Row], str], texts: Callable[[Row], Mapping[str, str]]
    ) -> list[Row]:
        """The rows of which no text is blank.

        Args:
            where: file and record of a row.
            texts: the texts of a row by the names of their fields.

        Raises:
            DatasetError: there are none.
        """
        kept = []
        for row in rows:
            blank = next((name for name, text in texts(row).items() if is_blank(text)), None)
            with self.unless_whole():
                if blank is not None:
                    raise NoTextError(f"{where(row)}: {blank} is empty")
                kept.append(row)
        self.check(kept)
        return kept

    def check(self, kept: Sequence[Any]) -> None:
        """Raises DatasetError where nothing is left."""
        if self.reasons and not kept:
            raise DatasetError(f"{self._name}: all {len(self)} items lack {self._what()}: {self.reasons[0]}")

    def notes(self, kept: int) -> list[str]:
        """The sentence that belongs beside the values, if there is one.

        Args:
            kept: number of items that lack nothing.
        """
        if not self.reasons:
            return []
        above = "" if self._root is None else f"{self._root}/"
        first = "; ".join(reason.removeprefix(above) for reason in self.reasons[:_NAMED])
        more = f"; and {len(self) - _NAMED} more" if len(self) > _NAMED else ""
        return [
            f"{len(self)} of {kept + len(self)} items lack {self._what()} and are left out: {first}{more}"
        ]

    def _what(self) -> str:
        return " or ".join(self._lack)


def is_blank(value: Any) -> bool:
    """Whether a cell or field holds no text: None, NaN, or white space alone."""
    if isinstance(value, str | bytes):
        return not value.strip()
    return value is None or (isinstance(value, float) and value != value)


def text_field(record: Any, name: str, where: str) -> str:
    """A field of a record that holds a text, as it is; ``""`` where it is null or blank.

    Raises:
        DatasetError: there is no such field, or it holds something else.
    """
    if isinstance(record, Mapping) and name in record and is_blank(record[name]):
        return ""
    text: str = field(record, name, str, where)
    return text
