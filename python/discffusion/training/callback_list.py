"""The callbacks of a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from discffusion.errors import ConfigError

if TYPE_CHECKING:
    import os

    from discffusion.scorer import Scorer
    from discffusion.training.history import History

__all__ = ["CallbackList", "RunOwner"]

_METHODS = ("on_step", "on_validation", "on_end")


class RunOwner(Protocol):
    """What a run needs of the trainer that it belongs to, and shows to callbacks."""

    @property
    def scorer(self) -> Scorer: ...

    def save(self, path: str | os.PathLike[str]) -> None: ...


class CallbackList:
    """Callbacks in their order: objects with some of the methods above, or functions that take a row."""

    def __init__(self, callbacks: Any) -> None:
        if not isinstance(callbacks, Iterable):
            raise ConfigError(f"callbacks is {type(callbacks).__name__}; expected a list of callbacks")
        self._callbacks = list(callbacks)
        for callback in self._callbacks:
            if isinstance(callback, type):
                raise ConfigError(f"a callback is the class {callback.__name__}; give an object of it")
            if not callable(callback) and not _has_methods(callback):
                raise ConfigError(
                    f"a callback is {type(callback).__name__}; expected a function of a row, or an object with "
                    f"{', '.join(_METHODS)}"
                )

    def step(self, trainer: RunOwner, row: dict[str, Any]) -> None:
        self._row("on_step", trainer, row)

    def validation(self, trainer: RunOwner, row: dict[str, Any]) -> None:
        self._row("on_validation", trainer, row)

    def end(self, trainer: RunOwner, history: History) -> None:
        for callback in self._callbacks:
            if hasattr(callback, "on_end"):
                callback.on_end(trainer, history)

    def _row(self, method: str, trainer: RunOwner, row: dict[str, Any]) -> None:
        for callback in self._callbacks:
            copied = dict(row)  # what a callback changes stays its own
            if not _has_methods(callback):
                callback(copied)
            elif hasattr(callback, method):
                getattr(callback, method)(trainer, copied)


def _has_methods(callback: Any) -> bool:
    return any(hasattr(callback, method) for method in _METHODS)
