"""RefCOCOg: referring expressions of one image."""

from __future__ import annotations

from discffusion.data.refcocog.dataset import load

__all__ = ["load"]
