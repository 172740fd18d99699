"""Files here and elsewhere: a path, or the address of any file system that fsspec knows, as ``s3://bucket/folder``."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from discffusion._extras import need
from discffusion._files import host_and_process, temporary_name, write_text
from discffusion.errors import ConfigError, DatasetError, DiscffusionError, OutputError

__all__ = ["Folder", "fetched", "file_system", "is_remote", "read_bytes"]


def is_remote(address: str) -> bool:
    """Whether it is an address rather than a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+(::.*)?://", address) is not None


def file_system(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it.

    Raises:
        ConfigError: nothing of the kind is known.
        InstallationError: fsspec, or what it needs for this kind of address, is not installed.
    """
    core = need("fsspec.core", "shards")
    try:
        system, path = core.url_to_fs(address)
    except (ValueError, ImportError, TypeError) as error:
        raise ConfigError(f"the address {address[:200]!r} cannot be used: {error}") from None
    return system, str(path)


@contextmanager
def fetched(address: str) -> Iterator[Path]:
    """The file at an address as a file here, for as long as it is needed.

    Raises:
        DatasetError: it cannot be fetched.
    """
    if not is_remote(address):
        yield Path(address)
        return
    system, path = file_system(address)
    with tempfile.TemporaryDirectory(prefix="discffusion-") as folder:
        own = Path(folder) / ("shard" + PurePosixPath(path).suffix)
        try:
            system.get_file(path, str(own))
        except Exception as error:  # each file system has errors of its own
            raise DatasetError(f"{address} cannot be fetched: {type(error).__name__}: {error}") from None
        yield own


def read_bytes(address: str, most: int) -> bytes:
    """The whole of a file of `most` bytes or fewer.

    Raises:
        OSError: it cannot be read, or is larger.
    """
    if not is_remote(address):
        path = Path(address)
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {address!r}")
        if path.stat().st_size > most:
            raise OSError(f"the file {address!r} has more than {most} bytes")
        return path.read_bytes()
    system, path_there = file_system(address)
    try:
        with system.open(path_there, "rb") as file:
            data: bytes = file.read(most + 1)
    except Exception as error:  # each file system has errors of its own
        raise OSError(f"{address} cannot be read: {type(error).__name__}: {error}") from None
    if len(data) > most:
        raise OSError(f"the file {address!r} has more than {most} bytes")
    return data


class Folder:
    """A folder for results, in which files appear whole or not at all.

    Args:
        address: a path or an address; made if it is missing.
    """

    def __init__(self, address: str | os.PathLike[str]) -> None:
        text = os.fspath(address)
        self._system: Any = None
        if is_remote(text):
            self._system, self._root = file_system(text)
            self._root = self._root.rstrip("/")
        else:
            self._root = str(Path(text).expanduser())
            if Path(self._root).exists() and not Path(self._root).is_dir():
                raise OutputError(f"output {text!r} is not a folder")

    def names(self) -> set[str]:
        """The files in it and below, by their names from it on."""
        if self._system is None:
            root = Path(self._root)
            return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
        self._system.invalidate_cache()
        try:
            paths = self._system.find(self._root)
        except FileNotFoundError:
            return set()
        start = self._system._strip_protocol(self._root).rstrip("/") + "/"
        return {str(path)[len(start) :] for path in paths if str(path).startswith(start)}

    def has(self, name: str) -> bool:
        """Whether a file is there."""
        if self._system is None:
            return self._local(name).is_file()
        self._system.invalidate_cache()
        return bool(self._system.isfile(f"{self._root}/{_inside(name)}"))

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A place here for the contents of a file, which becomes the file when they are complete.

        Raises:
            DiscffusionError: it cannot be written.
        """
        try:
            if self._system is None:
                target = self._local(name)
                target.parent.mkdir(parents=True, exist_ok=True)
                yield target
                return
            with tempfile.TemporaryDirectory(prefix="discffusion-") as folder:
                own = Path(folder) / PurePosixPath(name).name
                yield own
                self._put(own, name)
        except OSError as error:
            raise DiscffusionError(f"{self._root}/{name} cannot be written: {error}") from None

    def write_text(self, name: str, text: str) -> None:
        """Replaces a small file."""
        with self.writing(name) as path:
            write_text(path, text)

    @contextmanager
    def reading(self, name: str) -> Iterator[Any]:
        """A path or an open file to read from."""
        if self._system is None:
            yield self._local(name)
            return
        with self._system.open(f"{self._root}/{_inside(name)}", "rb") as file:
            yield file

    def remove(self, name: str) -> None:
        """Removes a file if it is there."""
        if self._system is None:
            self._local(name).unlink(missing_ok=True)
            return
        with suppress(FileNotFoundError):
            self._system.rm_file(f"{self._root}/{_inside(name)}")

    def sweep(self, name: str) -> None:
        """Removes what workers on this machine that are gone have left of a file."""
        if self._system is not None:
            return  # a place in the temporary folder of a machine
        target = self._local(name)
        host, _ = host_and_process()
        for part in target.parent.glob(f".{_escaped(target.name)}.{_escaped(host)}.*.tmp"):
            process = part.name.rsplit(".", 3)[1]
            if process.isdigit() and not _alive(int(process)):
                part.unlink(missing_ok=True)

    def __str__(self) -> str:
        return self._root

    def _local(self, name: str) -> Path:
        return Path(self._root) / _inside(name)

    def _put(self, own: Path, name: str) -> None:
        target = f"{self._root}/{_inside(name)}"
        parent, last = target.rsplit("/", 1)
        temporary = f"{parent}/{temporary_name(last)}"
        try:
            self._system.makedirs(parent, exist_ok=True)
            self._system.put_file(str(own), temporary)
            self._system.mv(temporary, target)
        except Exception as error:  # each file system has errors of its own
            raise OSError(f"{type(error).__name__}: {error}") from None


def _inside(name: str) -> str:
    """A name that leads nowhere else."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        raise DatasetError(f"the name {name!r} points outside its folder; rename the shard")
    return name


def _escaped(text: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", text)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
