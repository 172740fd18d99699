"""ARO: relation, attribution and order."""

from __future__ import annotations

from discffusion.data.aro.dataset import FILES, load

__all__ = ["FILES", "load"]
