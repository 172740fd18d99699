"""Optional packages, imported where they are used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from discffusion.errors import InstallationError

__all__ = ["need"]


def need(module: str, extra: str) -> Any:
    """The module of this name, imported.

    Args:
        module: name to import, as ``"scipy.stats"``.
        extra: the optional dependencies of this package that bring it.

    Raises:
        InstallationError: it is not installed, or cannot be imported; says what to type.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise InstallationError(
            f'{package} is needed here and cannot be imported ({error}): pip install "discffusion[{extra}]"'
        ) from None
