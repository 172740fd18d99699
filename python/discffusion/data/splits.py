"""Tables in a folder: one file a split, or several, as the Hub and the library datasets name them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from discffusion.errors import DatasetError, DatasetOptionError

__all__ = ["files_of", "splits_in"]

# test-00000-of-00002.parquet; older ones have a digest behind
_SHARD = re.compile(r"(.+)-(\d{4,})-of-(\d{4,})(?:-[0-9a-f]{8,})?")
_FOLDERS = ("", "data", "default")
# descriptions that lie beside tables
_BESIDE = ".json"


def files_of(folder: Path, split: str | None, kinds: Collection[str], name: str) -> list[Path]:
    """The files of a split, in their order.

    Args:
        split: None for the only one.
        kinds: endings of tables.
        name: of the dataset, for messages.

    Raises:
        DatasetError: there is no such split, or several and none is named, or a file of it is missing.
    """
    by_split = splits_in(folder, kinds)
    if split is None and len(by_split) > 1:
        # what is not a table for sure is only taken where it is asked for
        sure = {key: paths for key, paths in by_split.items() if paths[0].suffix.lower() != _BESIDE}
        by_split = sure if len(sure) == 1 else by_split
    there = ", ".join(by_split) or "none"
    if split is None and len(by_split) != 1:
        raise DatasetOptionError(
            f"{name}: {folder} holds {len(by_split)} tables, so one has to be named as split=: {there}"
        )
    if split is not None and split not in by_split:
        raise DatasetOptionError(f"{name}: {folder} has no split {split!r}; there are: {there}")
    return by_split[split] if split is not None else next(iter(by_split.values()))


def splits_in(folder: Path, kinds: Collection[str]) -> dict[str, list[Path]]:
    """Files by split: in the folder itself, else in ``data`` there, else in a folder for each split.

    Raises:
        DatasetError: of files that are numbered, some are missing.
    """
    places = [_grouped(folder / place, kinds) for place in _FOLDERS]
    for candidates in places:
        if any(paths[0].suffix.lower() != _BESIDE for paths in candidates.values()):
            return candidates
    # default/test/0000.parquet, as the Hub converts, or test/part-0.parquet
    for place in _FOLDERS:
        if (folder / place).is_dir():
            inside = {
                part.name: _tables(part, kinds)
                for part in sorted((folder / place).iterdir())
                if part.is_dir()
            }
            candidates = {split: paths for split, paths in inside.items() if paths}
            if candidates:
                return candidates
    return next((candidates for candidates in places if candidates), {})


def _tables(folder: Path, kinds: Collection[str]) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in kinds and path.is_file())


def _grouped(folder: Path, kinds: Collection[str]) -> dict[str, list[Path]]:
    by_split: dict[str, list[Path]] = {}
    numbered: dict[tuple[str, int], dict[int, Path]] = defaultdict(dict)
    for path in _tables(folder, kinds):
        shard = _SHARD.fullmatch(path.stem)
        if shard is None:
            by_split.setdefault(path.stem, [path])
        else:
            numbered[shard[1], int(shard[3])][int(shard[2])] = path
    for (split, count), paths in numbered.items():
        absent = [number for number in range(count) if number not in paths]
        if absent or split in by_split:
            raise DatasetError(
                f"{folder} holds {len(paths)} of the {count} files of {split!r}; number {absent[0]} is missing"
                if absent
                else f"{folder} holds the split {split!r} twice, as {by_split[split][0].name} too"
            )
        by_split[split] = [paths[number] for number in range(count)]
    return dict(sorted(by_split.items()))
