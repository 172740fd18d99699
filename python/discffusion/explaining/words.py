"""The old name of :mod:`discffusion.explanation.words`, kept for one release."""

from __future__ import annotations

from discffusion._deprecated import moved

__getattr__ = moved(__name__, "discffusion.explanation.words")
