"""VQAv2: a question with candidate answers."""

from __future__ import annotations

from discffusion.data.vqav2.dataset import SUBSETS, load

__all__ = ["SUBSETS", "load"]
