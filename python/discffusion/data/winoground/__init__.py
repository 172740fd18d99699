"""Winoground: two images and two texts."""

from __future__ import annotations

from discffusion.data.winoground.dataset import COUNT, load

__all__ = ["COUNT", "load"]
