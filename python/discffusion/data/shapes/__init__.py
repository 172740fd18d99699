"""The ``shapes`` world: small captioned scenes of two coloured shapes, drawn from a seed."""

from __future__ import annotations

from discffusion.data.shapes.dataset import SPLITS, SUBSETS, Shapes, load

__all__ = ["SPLITS", "SUBSETS", "Shapes", "load"]
