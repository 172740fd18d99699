"""Files of calibrations for tests of commands."""

from __future__ import annotations

from pathlib import Path

from tests.python.calibration.made import REPORT, made

from discffusion import Scorer
from discffusion.calibration import Calibration

__all__ = ["curve_alone", "saved"]


def curve_alone(scorer: Scorer, slope: float = 3.0, offset: float = -0.25) -> Calibration:
    """A calibration that leaves the score as it is."""
    return Calibration(
        weights=None,
        config=scorer.config,
        slope=slope,
        offset=offset,
        scorer=scorer.describe(),
        report={**REPORT, "model": "baseline"},
    )


def saved(folder: Path, scorer: Scorer, weighted: bool) -> Path:
    """The file of a calibration with weights, or of one that leaves the score as it is."""
    path = folder / ("weighted.safetensors" if weighted else "curve.safetensors")
    (made(scorer) if weighted else curve_alone(scorer)).save(path)
    return path
