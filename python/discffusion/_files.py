"""Files written so that a crash leaves the old one or the new one. Every file of this package is written here."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from discffusion.errors import DiscffusionError

__all__ = ["host_and_process", "replacing", "temporary_name", "write_bytes", "write_text"]


def write_text(path: Path, text: str) -> None:
    """Replaces the file at `path` by `text` in UTF-8, as :func:`write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces the file at `path` by `data`, all or nothing, also when the machine stops meanwhile.

    Raises:
        DiscffusionError: it cannot be written; what was there before is there still.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file to be written in place of `path`, which it becomes when the block ends without an error.

    Raises:
        DiscffusionError: it cannot be written; what was there before is there still.
    """
    temporary = path.with_name(temporary_name(path.name))
    try:
        yield temporary
        with temporary.open("rb") as file:  # on the disk before it has the name that others look for
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise DiscffusionError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):  # of a folder that is read-only or gone
            temporary.unlink()


def temporary_name(name: str) -> str:
    """The name that a file is written under first; no two writers have the same, on any machine."""
    host, process = host_and_process()
    return f".{name}.{host}.{process}.{secrets.token_hex(4)}.tmp"


def host_and_process() -> tuple[str, int]:
    """What names of :func:`temporary_name` hold behind that of the file."""
    return socket.gethostname().replace("/", "-"), os.getpid()
