"""A progress bar of scored items."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from discffusion._progress import Progress, _watched, new_bar

__all__ = ["Told", "showing"]

# called with the items done, which may be a fraction, and whether they were scored now
Told: TypeAlias = Callable[[float, bool], Any]


class _Bar:
    """Its speed is that of scoring; what was known before counts as done at the start."""

    def __init__(self, total: int) -> None:
        self._total, self._known = total, 0.0
        self._bar: Any = None

    def __call__(self, done: float, scored: bool) -> None:
        if self._bar is None:
            if not scored:
                self._known = done
                return
            self._bar = new_bar(total=self._total, initial=self._known, unit="item", bar_format=_FORMAT)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


_FORMAT = "{l_bar}{bar}| {n:.0f}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]"


@contextmanager
def showing(progress: Progress, total: int) -> Iterator[Told | None]:
    """A bar if it is wanted, or if nothing is said and somebody watches; a function is called as ``(done, total)``."""
    if callable(progress):
        yield lambda done, _: progress(int(done), total)
    elif progress is False or (progress is None and not _watched()):
        yield None
    else:
        bar = _Bar(total)
        try:
            yield bar
        finally:
            bar.close()
