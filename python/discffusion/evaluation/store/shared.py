"""The rows of an evaluation that several processes do together.

Each process appends to a file of its own beside the output, as ``rows.part-00002.jsonl``, and takes note of what stands
in all of them and in the output. When all items are scored, the first process writes the rows to the output in the
order of the items, each pair once, and removes the parts. Whatever is killed leaves whole rows in some file, and the
next run goes on from there, with any number of processes.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from discffusion import _parquet as parquet
from discffusion._extras import need
from discffusion._files import write_text
from discffusion._processes import SingleProcess
from discffusion.errors import ConfigError, DiscffusionError
from discffusion.evaluation.store.columns import COLUMNS
from discffusion.evaluation.store.files import distinct_rows, refuse_others
from discffusion.evaluation.store.journal import Journal
from discffusion.evaluation.store.settings import refuse_anonymous

__all__ = ["SharedRows"]


class SharedRows:
    """Rows of a group of processes.

    Args:
        output: a ``.jsonl`` or ``.parquet`` file.
        settings: what rows must have been made with.
        resume: whether to keep the rows there are; False removes them.
    """

    def __init__(
        self, output: str | os.PathLike[str], settings: Mapping[str, Any], resume: bool, group: SingleProcess
    ) -> None:
        self.path = Path(output).expanduser()
        if self.path.suffix not in (".jsonl", ".parquet"):
            raise ConfigError(f"output is {str(self.path)!r}; expected a .jsonl or a .parquet file")
        if self.path.suffix == ".parquet":
            need("pyarrow.parquet", "data")
        self._settings, self._resume, self._group = settings, resume, group

    @staticmethod
    def begun(output: str | os.PathLike[str]) -> bool:
        """Whether a group has left files of its own, which even a process that is alone has to take up."""
        return isinstance(output, str | os.PathLike) and bool(_parts(Path(output).expanduser()))

    @contextmanager
    def journal(self) -> Iterator[Journal]:
        """The rows of this process, with what is known of the others'."""
        if self._group.rank == 0 and not self._resume:
            for path in self._files():
                refuse_others(path)
                path.unlink()
        elif self._resume and any(path.stat().st_size for path in self._files()):
            refuse_anonymous(self._settings, self.path)
        self._group.broadcast(
            b""
        )  # nobody reads what is about to be removed, or writes what others still look for
        own = self.path.with_name(f"{self.path.stem}.part-{self._group.rank:05}.jsonl")
        with Journal(own, self._settings, resume=True) as journal:
            journal.also(path for path in self._files() if path != own)
            yield journal

    def merge(self, order: Mapping[str, int]) -> None:
        """Has the output hold all rows, and only it; to be called when all processes are done.

        Args:
            order: the places of the items by their keys.
        """
        files = self._files()
        if self._group.rank == 0:
            rows = [
                {name: value for name, value in row.items() if name != "settings"}
                for row in distinct_rows(files, True)
            ]
            rows.sort(
                key=lambda row: (order.get(row["key"], len(order)), row["image_index"], row["text_index"])
            )
            try:
                self._write(rows)
                for path in files:
                    if path != self.path:
                        path.unlink()
            except OSError as error:
                raise DiscffusionError(f"rows cannot be written to {str(self.path)!r}: {error}") from None
        self._group.broadcast(b"")

    def _write(self, rows: list[dict[str, Any]]) -> None:
        if self.path.suffix == ".parquet":
            parquet.write(self.path, rows, self._settings, COLUMNS)
            return
        if rows:
            rows[0] = {**rows[0], "settings": self._settings}
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in rows))

    def _files(self) -> list[Path]:
        """The output and whatever may hold rows of it, of processes or of one that was alone."""
        partial = self.path.with_suffix(".partial.jsonl")
        return [path for path in (self.path, partial, *_parts(self.path)) if path.is_file()]


def _parts(output: Path) -> list[Path]:
    return sorted(output.parent.glob(f"{glob.escape(output.stem)}.part-*.jsonl"))
