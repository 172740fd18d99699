"""What became of the shards."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Summary"]


@dataclass
class Summary:
    """How far the work is.

    Attributes:
        shards: how many this process was to score; all of them where it was alone.
        scored: how many of them it scored now; the others of `done` were done before.
        done: how many of them are done.
        rows: how many rows those have.
        failures: how many rows have no score, by kind; see :data:`discffusion.shards.rows.KINDS`.
        failed: shards that could not be read, each with the reason. They are tried again the next time.
        left: shards, of all workers, that have no rows yet.
        scored_rows: how many rows were made now.
        seconds: how long that took, loading of the model and reading included.
    """

    shards: int = 0
    scored: int = 0
    done: int = 0
    rows: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    left: int = 0
    scored_rows: int = 0
    seconds: float = 0.0

    @property
    def rows_per_second(self) -> float:
        """Of the rows made now."""
        return self.scored_rows / self.seconds if self.seconds > 0 else 0.0

    def take(self, name: str, counts: dict[str, Any], now: bool) -> None:
        """Takes up what :meth:`discffusion.shards.worker.Worker.score` said of a shard, now or before."""
        if "failed" in counts:
            self.failed[name] = counts["failed"]
            return
        self.done += 1
        self.rows += counts["rows"]
        self.failures = dict(Counter(self.failures) + Counter(counts["failures"]))
        if now:
            self.scored += 1
            self.scored_rows += counts["rows"]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {**vars(self), "rows_per_second": self.rows_per_second}

    def to_json(self) -> str:
        """Everything as JSON."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def __str__(self) -> str:
        failures = sum(self.failures.values())
        lines = [
            f"{self.done} of {self.shards} shards are done, {self.scored} of them now",
            f"{self.rows} rows, {failures} of them without a score",
            *(
                f"  {kind}: {count}"
                for kind, count in sorted(self.failures.items(), key=lambda pair: -pair[1])
            ),
        ]
        if self.scored:
            lines.append(
                f"{self.scored_rows} rows in {self.seconds:.1f} s: {self.rows_per_second:.1f} rows a second"
            )
        if self.failed:
            lines.append(f"{len(self.failed)} shards could not be read:")
            lines.extend(f"  {name}: {message}" for name, message in sorted(self.failed.items()))
        lines.append(f"{self.left} shards are left" if self.left else "nothing is left")
        return "\n".join(lines)
