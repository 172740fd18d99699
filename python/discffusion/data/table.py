"""The old name of :mod:`discffusion.data.tables.table`, kept for one release."""

from __future__ import annotations

from discffusion._deprecated import moved

__getattr__ = moved(__name__, "discffusion.data.tables.table")
