"""Speed and memory: this package against others' ways of computing the same scores."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from discffusion.bench.options import Options
    from discffusion.bench.report import BenchReport
    from discffusion.bench.run import bench

__all__ = ["BenchReport", "Options", "bench"]

_HOMES = {"Options": "options", "BenchReport": "report", "bench": "run"}
#: names of 0.1, until 0.3
_OLD = {"Report": "BenchReport"}


def __getattr__(name: str) -> Any:
    if name in _OLD:
        warnings.warn(
            f"discffusion.bench.{name} is called {_OLD[name]} now", DeprecationWarning, stacklevel=2
        )
        name = _OLD[name]
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
