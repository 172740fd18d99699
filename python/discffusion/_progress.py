"""A progress bar for requests that take a while."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TypeAlias

__all__ = ["Progress", "new_bar", "reporting"]

# None: a bar if somebody watches and the request is long; or always, never, or a function of (done, total)
Progress: TypeAlias = bool | Callable[[int, int], Any] | None

_PATIENCE = 1.0  # seconds without a bar


def _watched() -> bool:
    return _in_notebook() or (sys.stderr is not None and sys.stderr.isatty())


def _in_notebook() -> bool:
    # That ipykernel is imported says little: whoever runs notebooks imports it too.
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def new_bar(**options: Any) -> Any:
    """A bar of tqdm: a widget in a notebook that can show widgets, otherwise text."""
    if _in_notebook() and _has_widgets():
        from tqdm.auto import tqdm  # which knows the consoles that look like notebooks
    else:  # and would complain of a notebook without widgets, to draw text in the end
        from tqdm.std import tqdm
    return tqdm(**options)


def _has_widgets() -> bool:
    try:
        return hasattr(import_module("ipywidgets"), "FloatProgress")
    except Exception:  # not installed, or not of one piece
        return False


class _Bar:
    """Shows a bar from the first report on that comes late enough; until then tqdm is not even imported."""

    def __init__(self, patience: float) -> None:
        self._start = time.monotonic() + patience
        self._bar: Any = None

    def __call__(self, done: int, total: int) -> None:
        if self._bar is None:
            if time.monotonic() < self._start or done >= total:
                return
            self._bar = new_bar(total=total, unit="eval", leave=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


@contextmanager
def reporting(progress: Progress) -> Iterator[Callable[[int, int], Any] | None]:
    """What the core is to call as ``(done, total)``, or None."""
    if callable(progress):
        yield progress
    elif progress is False or (progress is None and not _watched()):
        yield None
    else:
        bar = _Bar(0.0 if progress else _PATIENCE)
        try:
            yield bar
        finally:
            bar.close()
