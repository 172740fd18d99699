"""Old public names, kept for one release: they still work, and warn of the new ones."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["moved", "renamed"]


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
