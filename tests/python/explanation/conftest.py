"""A scorer at a low resolution, so that many explanations are quick."""

from __future__ import annotations

from pathlib import Path

import pytest

from discffusion import Scorer


@pytest.fixture(scope="session")
def scorer(tiny: Path) -> Scorer:
    return Scorer(tiny, config="attention", device="cpu", steps=2, resolution=64)
