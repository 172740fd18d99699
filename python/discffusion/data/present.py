"""Which of the images that annotations name are really there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from discffusion.errors import DatasetError

__all__ = ["Locator", "keep_present", "rooted"]

Row = TypeVar("Row")


def rooted(root: Path, name: str) -> Path:
    """Where a reference leads: an absolute path, one from a home (``~``), or one relative to `root`."""
    path = Path(name)
    if name.startswith("~"):
        with suppress(RuntimeError):  # no such user: a name that begins so
            path = path.expanduser()
    return root / path


class Locator:
    """Finds image files below a root, asking the file system once a folder.

    Args:
        root: the folder that references are relative to.
        folders: folders below `root` that are searched in this order; ``""`` is `root` itself.
        anywhere: whether names may lead out of the root (``..``, ``~``, absolute paths): those that a user wrote, as
            opposed to those of an archive or of somebody's annotations.
    """

    def __init__(self, root: Path, folders: Sequence[str] = ("",), anywhere: bool = False) -> None:
        self.root, self.folders, self.anywhere = root, tuple(folders), anywhere
        self._listed: dict[Path, frozenset[str]] = {}

    def __call__(self, name: str) -> str | None:
        """Where `name` is, relative to `root` where it lies there, or None."""
        for place in self.folders:
            path = rooted(self.root / place, name) if self.anywhere else self.root / place / name
            if not self.anywhere and (".." in Path(place, name).parts or Path(name).is_absolute()):
                continue
            if path.name not in ("", "..") and path.name in self._names(path.parent):
                return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)
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
