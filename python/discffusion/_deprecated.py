"""Old public names, kept for one release: they still work, and warn of the new ones."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from importlib import import_module
from typing import Any, ParamSpec, TypeVar

__all__ = ["moved", "renamed", "renamed_argument"]

P = ParamSpec("P")
R = TypeVar("R")


def moved(old: str, new: str) -> Callable[[str], Any]:
    """``__getattr__`` of a module `old` whose contents are now in the module `new`."""

    def attribute(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        value = getattr(import_module(new), name)
        warnings.warn(f"{old}.{name} is now {new}.{name}", DeprecationWarning, stacklevel=2)
        return value

    return attribute


def renamed(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """``__getattr__`` of a module some of whose names were replaced by others.

    Args:
        names: the old names and the new ones, of the same module.
    """

    def attribute(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(f"{module}.{name} is now {module}.{names[name]}", DeprecationWarning, stacklevel=2)
        return getattr(import_module(module), names[name])

    return attribute


def renamed_argument(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Makes a function take arguments by their old names too; `names` has the new ones by the old ones."""

    def decorated(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **options: P.kwargs) -> R:
            for old in names.keys() & options.keys():
                new = names[old]
                warnings.warn(
                    f"the argument {old}= of {function.__name__} is now {new}=",
                    DeprecationWarning,
                    stacklevel=2,
                )
                options[new] = options.pop(old)
            return function(*args, **options)

        return call

    return decorated
