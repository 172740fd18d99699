"""The page served by a process of its own, as users start it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

WATCHED = Path(__file__).with_name("watched.py")


@dataclass
class Served:
    """A running page.

    Attributes:
        url: its address.
        process: which serves it.
        notes: file with the hosts that the process asked for.
    """

    url: str
    process: subprocess.Popen[str]
    notes: Path

    def hosts(self) -> set[str]:
        return set(self.notes.read_text().split()) if self.notes.exists() else set()

    def interrupt(self) -> tuple[int, str]:
        """Ctrl-C: the exit status, and what was written on standard error."""
        self.process.send_signal(signal.SIGINT)
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors


@contextmanager
def served(folder: Path, *options: str, environment: dict[str, str] | None = None) -> Iterator[Served]:
    notes = folder / "hosts.txt"
    process = subprocess.Popen(
        [sys.executable, str(WATCHED), str(notes), "demo", "--port", "0", "--json", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()  # nothing if the process ends before
        assert line, process.communicate()[1]
        yield Served(json.loads(line)["url"], process, notes)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
