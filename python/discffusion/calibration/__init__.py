"""Calibration of a score on labelled pairs: from observed numbers to weights and probabilities.

* :mod:`.observations`: what was observed of labelled pairs;
* :mod:`.weights`: a score as weights of steps, layers and heads;
* :mod:`.logistic`: the regression;
* :mod:`.probability`: the probability of a match.

Names are resolved on first use: a scorer takes weights from here, and the fit stands above scorers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from discffusion.calibration.observations import Numbers, Observations
    from discffusion.calibration.probability import Reliability, platt, reliability
    from discffusion.calibration.weights import Weights

# public name -> the module that defines it
_HOMES = {
    "Numbers": "discffusion.calibration.observations",
    "Observations": "discffusion.calibration.observations",
    "Reliability": "discffusion.calibration.probability",
    "Weights": "discffusion.calibration.weights",
    "platt": "discffusion.calibration.probability",
    "reliability": "discffusion.calibration.probability",
}

__all__ = [
    "Numbers",
    "Observations",
    "Reliability",
    "Weights",
    "platt",
    "reliability",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)
