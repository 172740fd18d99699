"""Members of tar shards by name and offset. Nothing is unpacked, so it does not matter where their names lead."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from discffusion.errors import DatasetError, DatasetOptionError

__all__ = ["Member", "Shard", "expand", "members", "read_member", "shards_of"]

_MOST_SHARDS = 1_000_000
_BLOCK = 512
# Damaged headers lead tarfile to mistakes of its own; one that promises a name of a terabyte, out of memory.
_UNREADABLE = (
    tarfile.TarError,
    OSError,
    ValueError,
    ArithmeticError,
    LookupError,
    EOFError,
    MemoryError,
    RecursionError,
)


class Shard(NamedTuple):
    """A tar file and the name that keys and references have for it."""

    path: Path
    name: str


class Member(NamedTuple):
    """A file in a shard: its name, where its bytes begin, and how many there are."""

    name: str
    offset: int
    size: int


def members(path: Path) -> tuple[list[Member], bool]:
    """The regular files of a tar, and whether it ends as a tar has to.

    A tar that was cut off between two members reads like a shorter one; only the mark at its end tells. A damaged
    header would end the listing without a word in the same way.

    Raises:
        DatasetError: it is no tar, compressed, or ends within a member.
    """
    files: list[Member] = []
    end = 0
    try:
        with tarfile.open(path, "r:") as archive:
            while (info := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # listed here, in less memory
                if info.size < 0 or info.offset_data < end:
                    raise tarfile.ReadError(f"the size of {info.name!r} is damaged")
                end = info.offset_data
                if info.isreg() and not info.issparse():
                    files.append(Member(info.name, info.offset_data, info.size))
            end = archive.offset
        with path.open("rb") as file:
            file.seek(end)
            rest = file.read(_BLOCK)
    except _UNREADABLE as error:
        reason = str(error) or "more memory is asked for than there is"
        last = f" after {files[-1].name!r}" if files else ""
        raise DatasetError(
            f"{path} is not a tar file that can be read{last}: {reason}{_hint(path)}"
        ) from None
    if rest and rest != bytes(_BLOCK):
        raise DatasetError(
            f"{path} is damaged at byte {end}, after {len(files)} files: no header of a file stands there"
        )
    return files, len(rest) == _BLOCK


def read_member(path: Path, member: Member) -> bytes:
    """The bytes of a member."""
    try:
        with path.open("rb") as file:
            file.seek(member.offset)
            data = file.read(member.size)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(data) != member.size:
        raise DatasetError(f"{path} ends within {member.name!r}: the file has changed since it was opened")
    return data


def shards_of(root: Any, split: str | None) -> tuple[list[Shard], Path | None]:
    """The shards that `root` stands for, and the folder of the dataset where it has one.

    Args:
        root: a tar file, a pattern (``00000..00003`` or ``train,test`` in braces), a list of those, or a folder. A
            folder holds tars, or ``nshards.txt`` and as many tars counted from 0, or a folder of the split that does.
        split: name of that folder; None for ``test`` where there is one.
    """
    if isinstance(root, list | tuple):
        paths = [path for one in root for path in _paths(one)]
        return _named(paths, split), None
    paths = _paths(root)
    if len(paths) != 1 or not paths[0].is_dir():
        return _named(paths, split), None
    base = place = paths[0]
    splits = sorted(part.name for part in base.iterdir() if part.is_dir() and any(part.glob("*.tar")))
    if split is not None or (not any(base.glob("*.tar")) and "test" in splits):
        wanted = "test" if split is None else split
        if wanted not in splits:
            raise DatasetOptionError(
                f"webdataset: {base} has no split {wanted!r}; there are: {', '.join(splits) or 'none'}"
            )
        place = base / wanted
    return _named(_tars(place, splits), None), base


def expand(pattern: str) -> list[str]:
    """The names that a pattern with braces stands for: ``{00000..00012}`` or ``{a,b}``; the last one counts fastest."""
    braces = re.search(r"\{([^{}]*)\}", pattern)
    if braces is None:
        return [pattern]
    inside = braces.group(1)
    span = re.fullmatch(r"([0-9]{1,18})\.\.([0-9]{1,18})", inside)
    if span:
        first, last = int(span.group(1)), int(span.group(2))
        if not first <= last < first + _MOST_SHARDS:
            raise DatasetOptionError(f"webdataset: the pattern {pattern!r} counts from {first} to {last}")
        choices = [str(number).zfill(len(span.group(1))) for number in range(first, last + 1)]
    elif "," in inside:
        choices = inside.split(",")
    else:
        raise DatasetOptionError(
            f"webdataset: {braces.group(0)} in {pattern!r} is neither {{0..9}} nor {{a,b}}"
        )
    before, after = pattern[: braces.start()], pattern[braces.end() :]
    return [before + choice + rest for choice in choices for rest in expand(after)]


def _paths(given: Any) -> list[Path]:
    if not isinstance(given, str | os.PathLike):
        raise DatasetOptionError(
            f"webdataset: root is {given!r}; expected a folder, a tar file, a pattern or a list of those"
        )
    text = os.fspath(given)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://|pipe:", str(text)):
        raise DatasetError(
            f"webdataset: {str(text)[:80]!r} is not a local file, and nothing is fetched: download the shards"
        )
    # a name with braces in it may be just that
    plain = Path(str(text)).expanduser()
    paths = [plain] if plain.exists() else [Path(name).expanduser() for name in expand(str(text))]
    absent = [path for path in paths if not path.exists()]
    if absent:
        first = ", ".join(map(str, absent[:10])) + (
            f" and {len(absent) - 10} more" if len(absent) > 10 else ""
        )
        raise DatasetError(f"webdataset: {len(absent)} of {len(paths)} shards do not exist: {first}")
    return paths


def _tars(place: Path, splits: Sequence[str]) -> list[Path]:
    count = place / "nshards.txt"
    if count.is_file():
        text = count.read_text(errors="replace").strip()
        if not (text.isascii() and text.isdigit() and len(text) < 9 and 0 < int(text) <= _MOST_SHARDS):
            raise DatasetError(f"{count} holds {text[:40]!r}; expected the number of shards")
        return _paths(place / ("{0.." + str(int(text) - 1) + "}.tar"))
    tars = sorted(place.glob("*.tar"))
    if not tars:
        there = f"; its folders {', '.join(splits)} do: name one as split=" if splits else ""
        raise DatasetError(f"webdataset: {place} holds no tar files{there}")
    return tars


def _named(paths: Sequence[Path], split: str | None) -> list[Shard]:
    if split is not None:
        raise DatasetOptionError(
            f"webdataset: split={split!r} is for a folder of splits; the shards are named one by one"
        )
    if not paths:
        raise DatasetOptionError("webdataset: root is an empty list; expected shards")
    folders = [path for path in paths if not path.is_file()]
    if folders:
        raise DatasetError(f"webdataset: {folders[0]} is not a file; a list or pattern names tar files")
    if len({path.name for path in paths}) == len(paths):
        return [Shard(path, path.name) for path in paths]
    # shards of the same name in different folders: the name tells them apart from where the folders part
    full = [path.resolve() for path in paths]
    if len(set(full)) != len(full):
        raise DatasetOptionError("webdataset: a shard is named twice")
    above = Path(os.path.commonpath([path.parent for path in full]))
    return [Shard(path, path.relative_to(above).as_posix()) for path in full]


def _hint(path: Path) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(6)
    except OSError:
        return ""
    packed = start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))
    return "; it is compressed: unpack it to a plain tar first" if packed else ""
