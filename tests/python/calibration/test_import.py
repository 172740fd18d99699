"""Weights are read by scorers, so they load nothing that stands above scorers."""

from __future__ import annotations

import subprocess
import sys

import pytest

import discffusion.calibration


def test_weights_load_no_evaluation() -> None:
    code = (
        "import sys, discffusion.calibration.weights; "
        "sys.exit(any(name.startswith('discffusion.evaluation') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", discffusion.calibration.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(discffusion.calibration, name).__module__.startswith("discffusion.calibration.")


def test_another_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'fits'"):
        _ = discffusion.calibration.fits
