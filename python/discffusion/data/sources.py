"""Where the images of a dataset lie: in folders below a root, or in zip files there that are read as they are."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from discffusion.data.present import Locator
from discffusion.errors import DatasetError

__all__ = ["ImageLocation", "ImageStore"]

#: larger than any photograph; a small archive can promise much more
MAX_MEMBER_BYTES = 1 << 28


class ImageLocation(NamedTuple):
    """A file below the root, or a member of an archive there."""

    file: str
    member: str | None = None


class ImageStore:
    """Finds and opens images. Archives are indexed when the first image is not found in a folder.

    Args:
        root: the folder everything else is relative to.
        folders: folders below `root` searched in this order; ``""`` is `root` itself.
        archives: zip files below `root` that are read without unpacking, where they exist.
        suffixes: what is tried after a name, in this order.
    """

    def __init__(
        self,
        root: Path,
        folders: Sequence[str] = ("",),
        archives: Sequence[str] = (),
        suffixes: Sequence[str] = ("",),
    ) -> None:
        self.root = root
        self._locate = Locator(root, folders)
        self._archives = [name for name in archives if (root / name).is_file()]
        self._suffixes = tuple(suffixes)
        self._members: dict[str, ImageLocation] | None = None
        self._found: dict[str, ImageLocation | None] = {}

    def find(self, name: str) -> ImageLocation | None:
        """Where the image is, or None."""
        if name not in self._found:
            self._found[name] = self._search(name)
        return self._found[name]

    def open(self, place: ImageLocation) -> Path | bytes:
        """The path of a file, or the bytes of a member."""
        path = self.root / place.file
        return path if place.member is None else _member(path, place.member)

    def _search(self, name: str) -> ImageLocation | None:
        for suffix in self._suffixes:
            place = self._locate(name + suffix)
            if place is not None:
                return ImageLocation(place)
        if not self._archives:
            return None
        if self._members is None:
            self._members = self._index()
        for suffix in self._suffixes:
            member = self._members.get(PurePosixPath(name + suffix).name)
            if member is not None:
                return member
        return None

    def _index(self) -> dict[str, ImageLocation]:
        members: dict[str, ImageLocation] = {}
        for name in self._archives:
            path = self.root / name
            try:
                with zipfile.ZipFile(path) as archive:
                    infos = archive.infolist()
            except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
                raise DatasetError(
                    f"{path} is not a zip file that can be read: {error}; fetch it again"
                ) from None
            for info in infos:
                # nothing is unpacked, so where a member's name would lead does not matter
                last = PurePosixPath(info.filename.replace("\\", "/"))
                if info.is_dir() or last.name.startswith(".") or "__MACOSX" in last.parts:
                    continue
                members.setdefault(last.name, ImageLocation(name, info.filename))
        return members


def _member(path: Path, member: str) -> bytes:
    where = f"{path}, member {member}"
    try:
        with zipfile.ZipFile(path) as archive:
            size = archive.getinfo(member).file_size
            if size > MAX_MEMBER_BYTES:
                raise DatasetError(f"{where} has {size} bytes; an image may have {MAX_MEMBER_BYTES} at most")
            return archive.read(member)
    except KeyError:
        raise DatasetError(f"{where} is not there any more: the file was replaced after opening") from None
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError) as error:
        raise DatasetError(f"{where} cannot be read: {error}; fetch the file again") from None
