"""A small disk of its own, which can be filled and made read-only."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Disk:
    """A file system in memory.

    Args:
        path: where it is mounted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self, left: int) -> None:
        """Leaves so many bytes free, to a page."""
        with self._filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError:
                size = file.tell()
            file.truncate(max(0, size - left))

    def empty(self) -> None:
        """Takes away what filled it."""
        self._filler.unlink(missing_ok=True)

    def writable(self, yes: bool) -> None:
        """Whether anything can be written."""
        subprocess.run(["mount", "-o", f"remount,{'rw' if yes else 'ro'}", str(self.path)], check=True)


@contextmanager
def mounted(path: Path, size: int) -> Iterator[Disk | None]:
    """A disk of so many bytes at an empty folder; None where this process may not mount one."""
    path.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        done = False
    try:
        yield Disk(path) if done else None
    finally:
        if done:
            subprocess.run(["umount", "-l", str(path)], check=True)
