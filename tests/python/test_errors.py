"""Every error is ours and the builtin that a caller expects."""

from __future__ import annotations

import pytest

import discffusion
from discffusion import errors

BUILTIN = {
    "CheckpointError": ValueError,
    "ConfigError": ValueError,
    "CopyError": TypeError,
    "DatasetError": ValueError,
    "DatasetOptionError": ValueError,
    "DeltasError": ValueError,
    "DeviceError": RuntimeError,
    "DiscffusionError": Exception,
    "ImageError": ValueError,
    "InstallationError": ImportError,
    "NumericalError": ArithmeticError,
    "OutOfMemoryError": MemoryError,
    "OutputError": ValueError,
    "TrainingError": RuntimeError,
}


@pytest.mark.parametrize("name", errors.__all__)
def test_bases(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, discffusion.DiscffusionError)
    assert issubclass(kind, BUILTIN[name])
    assert getattr(discffusion, name) is kind
    assert kind.__doc__


def test_no_error_is_forgotten() -> None:
    assert set(errors.__all__) == set(BUILTIN)
