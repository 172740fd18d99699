"""The mean score of matching pairs: for images that have no wrong text beside them, such as generated ones."""

from __future__ import annotations

import numpy as np

from discffusion.errors import ConfigError
from discffusion.evaluation.metrics.metric import Metric
from discffusion.evaluation.record import Record
from discffusion.evaluation.trials import Trials

__all__ = ["METRIC"]


def trials(records: list[Record]) -> Trials:
    """A trial is an item: the mean score of its matching pairs.

    Means compare within one scorer and one configuration only; the interval is for other items, not other noise.
    """
    held = [index for index, record in enumerate(records) if record.match.any()]
    if not held:
        raise ConfigError("mean_score: no item holds a matching pair")
    credit = np.array([records[index].scores[records[index].match].mean() for index in held])
    if not np.isfinite(credit).all():
        raise ConfigError("mean_score: a score is infinite, so there is no mean")
    leaf, ties = np.zeros((2, len(held)), np.intp)
    out = len(records) - len(held)
    notes = (f"{out} items hold no matching pair and are left out of mean_score",) if out else ()
    return Trials(credit, np.array(held, np.intp), ties, leaf, {"": np.ones(1)}, notes, ends=None)


METRIC = Metric(
    "mean_score", "mean score of matching pairs, over items; in units of the score", trials, unit="score"
)
