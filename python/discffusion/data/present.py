"""Which of the images that annotations name are really there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from discffusion.errors import DatasetError

__all__ = ["Locator", "keep_present"]

Row = TypeVar("Row")


class Locator:
    """Finds image files below a root, asking the file system once a folder.

    Args:
        root: the folder that references are relative to.
        folders: folders below `root` that are searched in this order; ``""`` is `root` itself.
    """

    def __init__(self, root: Path, folders: Sequence[str] = ("",)) -> None:
        self.root, self.folders = root, tuple(folders)
        self._listed: dict[Path, frozenset[str]] = {}

    def __call__(self, name: str) -> str | None:
        """Where `name` is, relative to `root`, or None. Names that lead out of the root are never found."""
        for place in self.folders:
            reference = f"{place}/{name}" if place else name
            parts = Path(reference).parts
            if not parts or ".." in parts or Path(reference).is_absolute():
                continue
            if parts[-1] in self._names(self.root.joinpath(*parts[:-1])):
                return Path(reference).as_posix()
        return None

    def _names(self, place: Path) -> frozenset[str]:
        if place not in self._listed:
            try:
                with os.scandir(place) as entries:
                    self._listed[place] = frozenset(entry.name for entry in entries if entry.is_file())
            except (OSError, ValueError):
                self._listed[place] = frozenset()
        return self._listed[place]


def keep_present(
    rows: Sequence[Row],
    images: Callable[[Row], Iterable[tuple[str, str | None]]],
    *,
    name: str,
    hint: str,
    allow_missing: bool,
) -> tuple[list[Row], tuple[str, ...]]:
    """The rows whose images are all there, and the images that are not.

    Args:
        images: for a row, pairs of an image's name and where it was found, or None.
        name: of the dataset.
        hint: what to fetch and where it belongs.

    Raises:
        DatasetError: images are missing and that was not allowed; names the first ten.
    """
    kept, missing = [], dict[str, None]()
    for row in rows:
        gone = [image for image, place in images(row) if place is None]
        missing.update(dict.fromkeys(gone))
        if not gone:
            kept.append(row)
    if missing and not allow_missing:
        first = ", ".join(list(missing)[:10])
        more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
        raise DatasetError(
            f"{name}: {len(missing)} images are missing, so {len(rows) - len(kept)} of {len(rows)} items cannot be "
            f"scored: {first}{more}. {hint}. To leave these items out and have that reported: allow_missing=True"
        )
    if missing and not kept:
        raise DatasetError(f"{name}: none of the {len(rows)} items has its images. {hint}")
    return kept, tuple(missing)
