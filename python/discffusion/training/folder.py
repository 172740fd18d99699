"""The folder of a run: what lies in it, and in which order it is written.

- ``lock``: held while a run is at work
- ``step-00000100.safetensors``: a state of the core with deltas, optimiser and position; the last two are kept
- ``best-00000080.safetensors``: the deltas that a kept state calls the best so far
- ``history.jsonl``: the rows of the history, one a line

A run may be killed between any two writes. So what a state tells of is written before the state (rows, best deltas),
and is removed only when a later state is in place. Whatever is newer than the state that a run goes on from is removed
or written again; a run is the same every time, so it is written again with the same contents.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from discffusion._files import write_text
from discffusion.errors import DiscffusionError, OutputError, TrainingError

__all__ = ["Folder"]

_STATE = re.compile(r"step-(\d{8,})\.safetensors")
_BEST = re.compile(r"best-(\d{8,})\.safetensors")
_LEFTOVER = re.compile(r"\.(step-|best-|history).*\.tmp")


class Folder:
    """A folder of a run, made and locked on entering.

    Raises:
        ConfigError: the folder cannot be made or written.
        TrainingError: another run is at work in it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser()
        # without buffers: what a full disk does not take must not come again when they are closed
        self._lock: FileIO | None = None
        self._history: FileIO | None = None

    def __enter__(self) -> Folder:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / "lock").open("ab+", buffering=0)
            self._take(self._lock)
        except OSError as error:
            self.__exit__()
            raise OutputError(f"checkpoint_dir {str(self.path)!r} cannot be used: {error}") from None
        except BaseException:
            self.__exit__()
            raise
        return self

    def _take(self, lock: FileIO) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().decode(errors="replace").strip() or "unknown"
            raise TrainingError(
                f"another run (process {holder}) is running in {str(self.path)!r}; wait for it to end, or give another "
                "checkpoint_dir"
            ) from None
        except OSError as error:  # some network file systems have no locks
            warnings.warn(
                f"{str(self.path)!r} cannot be locked ({error}); make sure that no other run uses it",
                stacklevel=2,
            )
        lock.truncate(0)
        lock.write(str(os.getpid()).encode())

    def __exit__(self, *_: object) -> None:
        for file in (self._history, self._lock):
            if file is not None:
                file.close()  # which lets go of the lock; a killed process lets go of it too
        self._history = self._lock = None

    def state(self, step: int) -> Path:
        """Where the state after `step` steps is."""
        return self.path / f"step-{step:08}.safetensors"

    def best(self, step: int) -> Path:
        """Where the deltas after `step` steps are, if they were the best."""
        return self.path / f"best-{step:08}.safetensors"

    def states(self) -> list[int]:
        """The steps of the states there are, the latest first."""
        matches = (_STATE.fullmatch(path.name) for path in self.path.iterdir())
        return sorted((int(match[1]) for match in matches if match), reverse=True)

    def clean(self) -> None:
        """Removes what a killed run left half written."""
        for path in self.path.iterdir():
            if _LEFTOVER.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def prune(self, states: Collection[int], best: Collection[int]) -> None:
        """Removes all states and best deltas but those of these steps."""
        for path in self.path.iterdir():
            for pattern, kept in ((_STATE, states), (_BEST, best)):
                match = pattern.fullmatch(path.name)
                if match and int(match[1]) not in kept:
                    path.unlink(missing_ok=True)

    def rewind(self, step: int, validations: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Takes the history back to `step`, with the validations that the state knows of, and opens it for more."""
        path = self.path / "history.jsonl"
        steps = {row["step"]: row for row in _rows(path) if "loss" in row and row["step"] <= step}
        if len(steps) < step:
            warnings.warn(
                f"{str(path)!r} lacks {step - len(steps)} of {step} steps; only the history is incomplete",
                stacklevel=2,
            )
        rows = sorted([*steps.values(), *validations], key=lambda row: (row["step"], "accuracy" in row))
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
        with self._history_errors("opened"):
            self._history = path.open("ab", buffering=0)
        return rows

    def append(self, row: dict[str, Any]) -> None:
        """Adds a row to the history at once, for others to read.

        Raises:
            DiscffusionError: it cannot be written; half of a row may be there, and is taken back with the next run.
        """
        if self._history is not None:
            left = memoryview((json.dumps(row) + "\n").encode())
            with self._history_errors("written"):
                while left:
                    left = left[self._history.write(left) :]

    def sync(self) -> None:
        """Has the history on the disk, as a state that is written next takes for granted.

        Raises:
            DiscffusionError: it does not get there.
        """
        if self._history is not None:
            with self._history_errors("brought to the disk"):
                os.fsync(self._history.fileno())

    @contextmanager
    def _history_errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DiscffusionError(
                f"the history in {str(self.path)!r} cannot be {what}: {error.strerror or error}; the run can go on "
                "from its last state"
            ) from None


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a history, without lines that are half written or foreign."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            yield row
