"""Calibration of a score on labelled pairs: from observed numbers to weights and probabilities.

* :mod:`.observations`: what was observed of labelled pairs;
* :mod:`.weights`: a score as weights of steps, layers and heads;
* :mod:`.fitting`: the fit, and what it is worth;
* :mod:`.choice`: the choice among models by cross-validation, divided by :mod:`.folds`;
* :mod:`.families`: kinds of model, of features that :mod:`.columns` makes;
* :mod:`.logistic`: the regression;
* :mod:`.probability`: the probability of a match;
* :mod:`.observing`: a scorer and items → what was observed;
* :mod:`.calibration`: what was fitted, as a scorer takes it and a file keeps it; :mod:`.report` says what it is worth;
* :mod:`.run`: all of it, for :meth:`Scorer.calibrate`.

Names are resolved on first use: a scorer takes a calibration without loading what fits one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from discffusion.calibration.calibration import Calibration
    from discffusion.calibration.fitting import Candidate, Fitted, fit
    from discffusion.calibration.observations import Numbers, Observations
    from discffusion.calibration.observing import observe
    from discffusion.calibration.probability import Reliability, platt, reliability
    from discffusion.calibration.weights import Weights

# public name -> the module that defines it
_HOMES = {
    "Calibration": "discffusion.calibration.calibration",
    "Candidate": "discffusion.calibration.fitting",
    "Fitted": "discffusion.calibration.fitting",
    "Numbers": "discffusion.calibration.observations",
    "Observations": "discffusion.calibration.observations",
    "Reliability": "discffusion.calibration.probability",
    "Weights": "discffusion.calibration.weights",
    "fit": "discffusion.calibration.fitting",
    "observe": "discffusion.calibration.observing",
    "platt": "discffusion.calibration.probability",
    "reliability": "discffusion.calibration.probability",
}

__all__ = [
    "Calibration",
    "Candidate",
    "Fitted",
    "Numbers",
    "Observations",
    "Reliability",
    "Weights",
    "fit",
    "observe",
    "platt",
    "reliability",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)
