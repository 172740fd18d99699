"""Small files, written so that a crash leaves the old one or the new one."""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import suppress
from pathlib import Path

from discffusion.errors import DiscffusionError

__all__ = ["host_and_process", "part_of", "write_text"]


def write_text(path: Path, text: str) -> None:
    """Replaces the file at `path` by `text`, as :func:`write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces the file at `path` by `data`, all or nothing, also when the machine stops meanwhile.

    Raises:
        DiscffusionError: it cannot be written; what was there before is there still.
    """
    part = part_of(path)
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise DiscffusionError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):  # of a folder that is read-only or gone
            part.unlink()


def part_of(path: Path) -> Path:
    """The name beside `path` that it is written under first; no two writers have the same, on any machine."""
    host, process = host_and_process()
    return path.with_name(f".{path.name}.{host}.{process}.{secrets.token_hex(4)}.tmp")


def host_and_process() -> tuple[str, int]:
    """What names begin with that :func:`part_of` makes."""
    return socket.gethostname().replace("/", "-"), os.getpid()
