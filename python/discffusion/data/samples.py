"""Samples of tar shards: which members belong together, and which of them are image and text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from discffusion.data.archives.tar import Member
from discffusion.errors import DatasetError

__all__ = ["IMAGE_KEYS", "Parts", "extensions", "samples_of"]

#: extensions of images; of several in a sample the first is taken
IMAGE_KEYS = (
    *("jpg", "png", "jpeg", "webp", "jpe", "jfif", "gif", "bmp", "tif", "tiff"),
    *("avif", "heic", "heif", "jp2", "j2k", "jpf", "jpx", "jxl", "ico", "ppm", "pgm", "pbm", "pnm", "tga"),
    *("psd", "svg", "exr", "hdr", "dng", "apng", "mpo"),
)


class Parts(NamedTuple):
    """A sample: its members of interest, None where they are not there.

    Attributes:
        key: its name in the shard.
        image: of several, that of the first extension; an empty one only where there is no other.
        text: the member with the caption.
        twice: the name of a member that the shard holds twice, if there is one.
        there: the extensions that it has.
    """

    key: str
    image: Member | None
    text: Member | None
    twice: str | None
    there: tuple[str, ...]


def extensions(name: str, given: object) -> tuple[str, ...]:
    """Extensions as the user gave them: ``"input.jpg"``, several as ``"jpg;png"`` or in a list.

    Raises:
        DatasetError: they are none; the message says the option's `name`.
    """
    several = re.split("[;,]", given) if isinstance(given, str) else given
    if not isinstance(several, list | tuple) or not all(isinstance(one, str) for one in several):
        raise DatasetError(f"{name}= is {given!r}; expected an extension, as 'input.jpg'")
    endings = tuple(one.strip().lstrip(".").lower() for one in several)
    if not endings or not all(endings):
        raise DatasetError(f"{name}= is {given!r}; expected an extension, as 'input.jpg'")
    return endings


def samples_of(members: Sequence[Member], images: Sequence[str], text: str) -> Iterator[Parts]:
    """The samples of a shard in its order; what has neither image nor text is passed over.

    The key of a sample is the name up to the first point of its last part, as the library webdataset has it. Names may
    have points of their own, though (``22.05.png`` with ``22.05.txt``): what lies behind the first point and goes with
    an image and a text alike, is a number, or stands where nothing has a plain extension, belongs to the name.

    Args:
        images: extensions of images, the first one goes first.
        text: extension of the captions.
    """
    groups: dict[str, dict[str, Member]] = {}
    repeated: dict[str, dict[str, str]] = {}
    for member in members:
        path = PurePosixPath(member.name)
        stem, _, extension = path.name.partition(".")
        if not stem or not extension:
            continue
        key, extension = (path.parent / stem).as_posix(), extension.lower()
        group = groups.setdefault(key, {})
        if extension in group:
            repeated.setdefault(key, {}).setdefault(extension, member.name)
        group[extension] = member
    for key, group in groups.items():
        yield from _of_group(key, group, images, text, repeated.get(key, {}))


def _of_group(
    key: str, group: dict[str, Member], images: Sequence[str], text: str, repeated: dict[str, str]
) -> Iterator[Parts]:
    """The sample of a key, and those whose names go on behind its point."""
    plain = [extension for extension in group if extension == text or extension in images]
    split = {extension: _split(extension, (*images, text)) for extension in group if extension not in plain}
    names: dict[str, dict[str, str]] = {}
    for extension, parts in split.items():
        if parts is not None:
            names.setdefault(parts[0], {})[parts[1]] = extension
    own = {
        name: of
        for name, of in names.items()
        if not plain or name[0].isdigit() or (text in of and any(kind in of for kind in images))
    }
    whole = [name for name, of in own.items() if text in of and any(kind in of for kind in images)]
    # a mask beside 22.05.png is 22.05.seg.png
    own = {
        name: of
        for name, of in own.items()
        if name in whole or not any(name.startswith(f"{other}.") for other in whole)
    }
    taken = {extension for of in own.values() for extension in of.values()}
    rest = {extension: member for extension, member in group.items() if extension not in taken}
    if plain:
        yield _parts(key, rest, images, text, repeated)
    for of in own.values():
        members = {kind: group[extension] for kind, extension in of.items()}
        twice = {kind: repeated[extension] for kind, extension in of.items() if extension in repeated}
        # as it is written: extensions were taken without regard to case
        kind, member = next(iter(members.items()))
        full = PurePosixPath(member.name)
        own_key = (full.parent / full.name[: -len(kind) - 1]).as_posix()
        yield _parts(own_key, members, images, text, twice)


def _split(extension: str, kinds: Sequence[str]) -> tuple[str, str] | None:
    """What of an extension belongs to the name, and the extension that is known."""
    listed = next((kind for kind in kinds if extension.endswith(f".{kind}")), None)
    return None if listed is None else (extension[: -len(listed) - 1], listed)


def _parts(
    key: str, group: dict[str, Member], images: Sequence[str], text: str, repeated: dict[str, str]
) -> Parts:
    there = [group[kind] for kind in images if kind in group]
    image = next((member for member in there if member.size), there[0] if there else None)
    return Parts(key, image, group.get(text), next(iter(repeated.values()), None), tuple(group))
