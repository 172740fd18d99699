"""A progress bar of optimiser steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from discffusion._progress import Progress, _watched, new_bar

__all__ = ["Report", "showing"]

# called with the steps done, the steps in all and the last row
Report: TypeAlias = Callable[[int, int, dict[str, Any] | None], Any]


class _Bar:
    def __init__(self) -> None:
        self._bar: Any = None

    def __call__(self, done: int, total: int, row: dict[str, Any] | None) -> None:
        if self._bar is None:
            self._bar = new_bar(total=total, initial=done, unit="step")
        if row is not None:
            self._bar.set_postfix({"loss": f"{row['loss']:.4g}"}, refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


@contextmanager
def showing(progress: Progress) -> Iterator[Report]:
    """A bar if it is wanted, or if nothing is said and somebody watches; a function is called as ``(done, total)``."""
    if callable(progress):
        yield lambda done, total, _: progress(done, total)
    elif progress is False or (progress is None and not _watched()):
        yield lambda *_: None
    else:
        bar = _Bar()
        try:
            yield bar
        finally:
            bar.close()
