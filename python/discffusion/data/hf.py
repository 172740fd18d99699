"""The old name of :mod:`discffusion.data.tables.hf`, kept for one release."""

from __future__ import annotations

from discffusion._deprecated import moved

__getattr__ = moved(__name__, "discffusion.data.tables.hf")
