"""How right the probabilities are that a scorer's own calibration makes of its scores."""

from __future__ import annotations

import numpy as np

from discffusion.errors import ConfigError
from discffusion.evaluation.metrics.calibration_error import errors, pairs_of, said_of_every_pair
from discffusion.evaluation.metrics.metric import Metric, Result
from discffusion.evaluation.record import Record

__all__ = ["METRIC"]


def measure(records: list[Record]) -> Result:
    """``ece`` and ``brier`` of all pairs of all items. Nothing is fitted: these are the probabilities as they are."""
    known = [record.probabilities for record in records if record.probabilities is not None]
    if len(known) < len(records):
        raise ConfigError(
            "probability: the scores have no calibration; fit one by scorer.calibrate(items) and take "
            "scorer.with_calibration(it)"
        )
    pairs = pairs_of(records, "probability")
    p = np.concatenate([one.ravel() for one in known])
    return Result(
        errors(p, pairs),
        (
            "probability: ece and brier judge the probabilities of the scorer's own calibration; lower is better",
            f"probability: {said_of_every_pair(pairs.match)}",
        ),
    )


METRIC = Metric(
    "probability",
    "calibration error and Brier score of the probabilities that the scorer's own calibration gives",
    direct=measure,
    by_group=False,
)
