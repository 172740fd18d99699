"""What metrics read of an item's own ``meta``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from discffusion.errors import ConfigError
from discffusion.evaluation.record import Record

__all__ = ["strings"]


def strings(record: Record, metric: str, name: str, what: str) -> list[str]:
    """The strings in ``meta[name]``, at least one.

    Raises:
        ConfigError: there are none; the message says `what` the metric needs there.
    """
    given: Any = record.meta.get(name)
    found = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else []
    if not found or not all(isinstance(value, str) for value in found):
        raise ConfigError(f"{metric}: item {record.key!r} lacks meta[{name!r}]: {what}, as strings")
    return found
