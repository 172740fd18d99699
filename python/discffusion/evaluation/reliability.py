"""The probabilities of scored items: by which curve, and how often what has one comes true."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from discffusion.errors import ConfigError
from discffusion.evaluation.metrics.logistic import Logistic
from discffusion.evaluation.record import Record

if TYPE_CHECKING:
    from discffusion.calibration import Reliability

__all__ = ["as_rows", "curve_of", "plot", "reliability_of", "with_probabilities"]


def curve_of(scorer: Any) -> dict[str, Any] | None:
    """The curve from the scores to probabilities, as plain data; None if the scorer has none.

    Returns:
        ``slope`` and ``offset``, see :class:`~discffusion.calibration.Calibration`, and ``calibration``, its digest.
    """
    if not getattr(scorer, "has_probability", False):
        return None
    calibration = scorer.calibration
    return {
        "slope": float(calibration.slope),
        "offset": float(calibration.offset),
        "calibration": calibration.digest,
    }


def with_probabilities(records: list[Record], curve: Mapping[str, Any] | None) -> list[Record]:
    """The records with the probabilities that a curve makes of their scores; as they are if there is none."""
    if curve is None:
        return records
    probability = Logistic(float(curve["slope"]), float(curve["offset"]))
    return [replace(record, probabilities=probability(record.scores)) for record in records]


def reliability_of(records: list[Record], bins: int, equal_mass: bool) -> Reliability:
    """See :meth:`Report.reliability`."""
    from discffusion.calibration.probability import reliability  # which imports from this package

    known = [record.probabilities for record in records if record.probabilities is not None]
    if len(known) < len(records):
        raise ConfigError(
            "the scores have no calibration, and so no probabilities; fit one by scorer.calibrate(items) and take "
            "scorer.with_calibration(it)"
        )
    match = np.concatenate([record.match.ravel() for record in records])
    return reliability(np.concatenate([p.ravel() for p in known]), match, bins, equal_mass=equal_mass)


def as_rows(found: Reliability) -> list[dict[str, Any]]:
    """A bin each, as plain data: its edges, how many pairs it has, their mean probability and the share that match."""
    columns = (found.edges[:-1], found.edges[1:], found.count, found.predicted, found.observed)
    return [
        {
            "low": low,
            "high": high,
            "count": count,
            "predicted": predicted if count else None,
            "observed": observed if count else None,
        }
        for low, high, count, predicted, observed in zip(*(part.tolist() for part in columns), strict=True)
    ]


def plot(found: Reliability, ax: Any) -> Any:
    """See :meth:`Report.plot_reliability`."""
    from discffusion.plot.figure import axes_or_new
    from discffusion.plot.reliability import reliability as draw

    ax = axes_or_new(ax, (5.0, 5.0))
    seen = found.count > 0
    draw(ax, found.predicted[seen], found.observed[seen], found.count[seen])
    return ax
