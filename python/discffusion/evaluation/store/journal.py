"""The file that rows go to while they are made, so that a run which is killed can be taken up again.

Rows are appended, an item's all at once, and nothing in front of them is touched. So a kill leaves whole rows and
perhaps the first part of one, which is cut off. With ``rows.parquet`` as output the rows go to ``rows.partial.jsonl``
beside it, and become that file in the end.

The first row also carries the ``settings`` of the run, whose digest all rows have as ``run``. Where they have changed
in what is no part of that digest, the curve of probabilities, the next row carries them again, and the last count. If
there is no next row, the file is written anew in the end.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from discffusion import _parquet as parquet
from discffusion._extras import need
from discffusion._files import replacing
from discffusion._identity import difference
from discffusion.errors import ConfigError, DiscffusionError, OutputError
from discffusion.evaluation.store.columns import COLUMNS
from discffusion.evaluation.store.files import (
    cut_half_a_row,
    distinct_rows,
    read_rows,
    refuse_others,
    settings_in,
    write,
)
from discffusion.evaluation.store.rows import Gathered
from discffusion.evaluation.store.settings import refuse_anonymous, run_of

__all__ = ["Journal"]

# Seconds from one fsync to the next. A kill loses nothing of what was written before; only a power failure could.
_SYNC_EVERY = 1.0


class Journal:
    """The rows of a run, open for more, and locked.

    Args:
        output: a ``.jsonl`` or ``.parquet`` file, made if it is missing; None keeps nothing.
        settings: what rows must have been made with.
        resume: whether to keep the rows there are; False removes them.

    Raises:
        ConfigError: the file cannot be written, is in use, or holds rows of another run (says what differs) or of a
            scorer that does not say which it is.
        DatasetError: the file holds something else than rows.
        InstallationError: pyarrow is not installed, and the output is parquet.
    """

    def __init__(
        self, output: str | os.PathLike[str] | None, settings: Mapping[str, Any], resume: bool
    ) -> None:
        self.found = Gathered()
        try:
            self.path = None if output is None else Path(output).expanduser()
        except (TypeError, RuntimeError) as error:
            raise ConfigError(f"output is {output!r}; expected a path ({error})") from None
        self._settings, self._run = settings, run_of(settings)
        self._resume = resume
        self._file: int | None = None
        self._synced = 0.0
        self._told: Any = None  # the settings that rows carry, the last of them
        self._kept: Any = None  # those of the files of this run, also of a parquet file as a whole
        self._parquet = self.path is not None and self.path.suffix == ".parquet"
        if self.path is not None and self.path.suffix not in (".jsonl", ".parquet"):
            raise ConfigError(f"output is {str(self.path)!r}; expected a .jsonl or a .parquet file")
        if self._parquet:
            need("pyarrow.parquet", "data")

    def __enter__(self) -> Journal:
        if self.path is not None:
            try:
                self._file = _locked(self._partial)
                self._take_up(self.path)
            except OSError as error:
                self._close()
                raise OutputError(
                    f"output {str(self.path)!r} cannot be used: {error.strerror or error}"
                ) from None
            except BaseException:
                self._close()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Adds rows at once."""
        if self._file is None:
            return
        lines = []
        for row in rows:
            own = {**row, "run": self._run}
            if self._told != self._settings:
                own["settings"] = self._told = self._kept = self._settings
            lines.append(json.dumps(own) + "\n")
        try:
            write(self._file, "".join(lines).encode())
            if time.monotonic() - self._synced > _SYNC_EVERY:
                os.fsync(self._file)
                self._synced = time.monotonic()
        except OSError as error:
            raise DiscffusionError(
                f"rows cannot be written to {str(self._partial)!r}: {error.strerror or error}; those before are kept"
            ) from None

    def finish(self) -> None:
        """Has all rows on the disk, and in the parquet file if that is the output."""
        if self._file is None or self.path is None:
            return
        with suppress(OSError):  # of file systems that cannot
            os.fsync(self._file)
        outdated = self._kept is not None and self._kept != self._settings
        if self._parquet and (outdated or os.fstat(self._file).st_size > 0):
            rows = [row for row in (self.path, self._partial) if row.exists()]
            try:
                distinct = distinct_rows(rows, self.found.duplicates())
                parquet.write(self.path, distinct, self._settings, COLUMNS)
            except DiscffusionError as error:
                raise DiscffusionError(f"{error}; the rows are kept in {self._partial}") from None
            self._partial.unlink()
        elif outdated:
            self._write_anew(self.path)

    def _write_anew(self, path: Path) -> None:
        """The same rows with the settings of now."""
        settings: Any = {"settings": self._settings}
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            for _, row in read_rows(path):
                row.pop("settings", None)
                file.write(json.dumps({**row, **settings}) + "\n")
                settings = {}

    @property
    def _partial(self) -> Path:
        assert self.path is not None
        return self.path.with_suffix(".partial.jsonl") if self._parquet else self.path

    def also(self, paths: Iterable[Path]) -> None:
        """Takes note of rows that other processes have written, or write."""
        for path in paths:
            self._gather(path)

    def _take_up(self, output: Path) -> None:
        assert self._file is not None
        if self._parquet:
            for leftover in output.parent.glob(f".{output.name}.*.tmp"):  # of a run killed as it ended
                leftover.unlink(missing_ok=True)
        files = [path for path in dict.fromkeys((output, self._partial)) if path.exists()]
        if not self._resume:
            for path in files:
                refuse_others(path)
            os.ftruncate(self._file, 0)
            if self._parquet:
                output.unlink(missing_ok=True)
            return
        for path in files:
            self._kept = self._gather(path) or self._kept
        if len(self.found):
            refuse_anonymous(self._settings, output)
        cut_half_a_row(self._file)  # last: a file that is refused stays as it is

    def _gather(self, path: Path) -> dict[str, Any] | None:
        """Takes note of the rows of a file; returns the settings that it has for this run."""
        settings_of = settings_in(path)
        for where, row in read_rows(path):
            run = self.found.add(row, where)
            if isinstance(row.get("settings"), dict):
                settings_of[run] = row["settings"]
                self._told = row["settings"] if run == self._run else self._told
            if run != self._run:
                changed = difference(settings_of[run], self._settings) if run in settings_of else None
                raise OutputError(
                    f"the rows in {str(path)!r} are of another evaluation: {changed or 'they do not say which'}; give "
                    "another output, or start over with resume=False"
                )
        return settings_of.get(self._run)

    def _close(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                os.fsync(self._file)
                if os.fstat(self._file).st_size == 0 and _is_at(self._file, self._partial):
                    self._partial.unlink()
            os.close(self._file)  # which lets go of the lock; a killed process lets go of it too
        self._file = None


def _locked(path: Path) -> int:
    """The file, open and locked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _lock(file, path)
            if _is_at(file, path):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # another process removed the file between the two calls


def _lock(file: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(file).st_mode):
        raise OutputError(f"output {str(path)!r} is not a regular file")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OutputError(
            f"another process writes rows to {str(path)!r}; wait for it to end, or give another output"
        ) from None
    except OSError as error:  # some network file systems have no locks
        warnings.warn(
            f"{str(path)!r} cannot be locked ({error}); make sure that no other process uses it", stacklevel=2
        )


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
