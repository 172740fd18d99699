"""A warning at the line of whoever called this package."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

__all__ = ["warn"]

_PACKAGE = str(Path(__file__).parent)


def warn(message: str) -> None:
    """A ``UserWarning``; by Python's default filters, each is shown once for a line of the caller's."""
    warnings.warn(message, UserWarning, stacklevel=_outside())


def _outside() -> int:
    """The level, counted from :func:`warn`, of the first line that is not in this package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    return level
