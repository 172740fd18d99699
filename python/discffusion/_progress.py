"""The progress bar of whatever takes a while: requests, evaluations, training."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Protocol, TypeAlias

__all__ = ["Progress", "ProgressReport", "new_bar", "reporting"]

# None: a bar if somebody watches and the request is long; or always, never, or a function of (done, total)
Progress: TypeAlias = bool | Callable[[int, int], Any] | None

_PATIENCE = 1.0  # seconds without a bar
# a count that is a fraction is shown as a whole number
_FORMAT = "{l_bar}{bar}| {n:.0f}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"


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


class ProgressReport(Protocol):
    """What work that takes a while calls, in the units of the bar.

    Args:
        done: how much is done, which may be a fraction.
        total: of how much.
        computed: whether it was done now; what was there before is where the bar starts, and its speed leaves it out.
        loss: shown beside the bar.
    """

    def __call__(
        self, done: float, total: int, *, computed: bool = True, loss: float | None = None
    ) -> Any: ...


class _Bar:
    """A bar of tqdm, from the first report on that comes late enough; until then tqdm is not even imported."""

    def __init__(self, patience: float, unit: str, leave: bool) -> None:
        self._patience, self._options = patience, {"unit": unit, "leave": leave, "bar_format": _FORMAT}
        self._start, self._initial = time.monotonic() + patience, 0.0
        self._bar: Any = None

    def __call__(self, done: float, total: int, *, computed: bool = True, loss: float | None = None) -> None:
        if self._bar is None:
            if not computed:
                self._initial = done
                return
            if self._patience and (time.monotonic() < self._start or done >= total):
                return
            self._bar = new_bar(total=total, initial=self._initial, **self._options)
        if loss is not None:
            self._bar.set_postfix({"loss": f"{loss:.4g}"}, refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


@contextmanager
def reporting(
    progress: Progress, unit: str = "eval", *, patience: float = _PATIENCE, leave: bool = False
) -> Iterator[ProgressReport | None]:
    """What the work within is to call, or None if nobody wants to know.

    Args:
        progress: a function is called as ``(done, total)`` in whole numbers.
        unit: what is counted.
        patience: seconds without a bar, where `progress` is None.
        leave: whether the bar stays when the work is done.
    """
    if callable(progress):
        function = progress

        def report(done: float, total: int, *, computed: bool = True, loss: float | None = None) -> Any:
            return function(int(done), total)

        yield report
    elif progress is False or (progress is None and not _watched()):
        yield None
    else:
        bar = _Bar(0.0 if progress else patience, unit, leave)
        try:
            yield bar
        finally:
            bar.close()
