"""Speed and memory: this package against others' ways of computing the same scores."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from discffusion.bench.options import Options
    from discffusion.bench.report import Report
    from discffusion.bench.run import bench

__all__ = ["Options", "Report", "bench"]


def __getattr__(name: str) -> Any:
    homes = {"Options": "options", "Report": "report", "bench": "run"}
    if name in homes:
        return getattr(import_module(f"{__name__}.{homes[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
