"""The results of a benchmark, and their forms: plain data, JSON, Markdown."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from discffusion.errors import ConfigError

if TYPE_CHECKING:
    import os

    from discffusion.bench.growth import Growth
    from discffusion.bench.memory import Footprint
    from discffusion.bench.peak import Peak
    from discffusion.bench.phases import Phases
    from discffusion.bench.runner import Comparison

__all__ = ["FORMAT", "BenchReport"]

#: raised when the form of the JSON changes; 2: ``implementations`` and ``phases`` were called sides and stages before
FORMAT = 2


@dataclass
class BenchReport:
    """All that was measured; a part that was not asked for is None or empty.

    Attributes:
        about: model, options, machine, versions, commit, date, and what was chosen for each implementation.
        comparisons: by workload, all implementations.
        phases, operators, peak, growth: see the modules of these names.
        memory: by ``"warm"`` and ``"cold"`` and by implementation.
        warnings: what makes the figures less certain, a sentence each.
    """

    about: dict[str, Any]
    comparisons: list[Comparison] = field(default_factory=list)
    phases: Phases | None = None
    operators: dict[str, Any] | None = None
    peak: Peak | None = None
    memory: dict[str, dict[str, Footprint]] = field(default_factory=dict)
    growth: Growth | None = None
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain data; times in seconds, memory in bytes, rates in operations per second."""
        return {
            "format": FORMAT,
            **self.about,
            "seconds": self.seconds,
            "warnings": list(self.warnings),
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            "phases": None if self.phases is None else self.phases.to_dict(),
            "operators": self.operators,
            "peak": None if self.peak is None else self.peak.to_dict(),
            "memory": {
                state: {implementation: one.to_dict() for implementation, one in footprints.items()}
                for state, footprints in self.memory.items()
            },
            "growth": None if self.growth is None else self.growth.to_dict(),
        }

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The same as JSON; also written to `path`, if one is given."""
        from discffusion._files import write_text

        text = json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"
        if path is not None:
            write_text(Path(path), text)
        return text

    def markdown(self) -> str:
        """Tables for people."""
        from discffusion.bench.markdown import document

        return document(self)

    def write(self, path: str | os.PathLike[str]) -> list[Path]:
        """Writes ``.json`` or ``.md`` by the name's ending; to a folder, both.

        Raises:
            ConfigError: the name ends otherwise.
        """
        from discffusion._files import write_text

        where = Path(path)
        check_output(where)
        files = [where] if where.suffix else [where / "bench.json", where / "bench.md"]
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, self.to_json() if file.suffix == ".json" else self.markdown())
        return files

    def __str__(self) -> str:
        return self.markdown()


def check_output(path: Path) -> None:
    """That a report can be written there, before minutes are spent on it."""
    if path.suffix not in ("", ".json", ".md"):
        raise ConfigError(f"output is {str(path)!r}; expected a folder, or a file that ends in .json or .md")
    if path.suffix and path.is_dir():
        raise ConfigError(f"output is {str(path)!r}, which is a folder")
    if not path.suffix and path.is_file():
        raise ConfigError(f"output is {str(path)!r}, which is a file; expected a folder, .json or .md")
