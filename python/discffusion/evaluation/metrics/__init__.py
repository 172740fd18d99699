"""Metrics, from records alone. A new metric is one file and one line below, or an entry point of another package."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from discffusion._registry import Entry, Registry
from discffusion.evaluation.metrics.metric import Metric, Result
from discffusion.evaluation.metrics.top import top

__all__ = [
    "METRICS",
    "Metric",
    "Result",
    "auto_metrics",
    "describe_metrics",
    "distinct",
    "metric_named",
    "metric_names",
]

_OWN = {
    "acc@1": "top:ACC_1",
    "acc@5": "top:ACC_5",
    "accuracy": "accuracy:METRIC",
    "aro": "aro:METRIC",
    "calibration": "calibration:METRIC",
    "kinds": "kinds:METRIC",
    "mean_score": "mean_score:METRIC",
    "probability": "probability:METRIC",
    "retrieval": "retrieval:METRIC",
    "sugarcrepe": "sugarcrepe:METRIC",
    "tree": "tree:METRIC",
    "vqa": "vqa:METRIC",
    "winoground": "winoground:METRIC",
}


def _wrong(name: str, metric: Any) -> str | None:
    """A report and the rows' settings name a metric as it names itself."""
    if not isinstance(metric, Metric):
        return f"{metric!r}; expected a discffusion.evaluation.metrics.Metric"
    return (
        None if metric.name == name else f"a metric that calls itself {metric.name!r}; both names must agree"
    )


#: by name; besides, ``acc@K`` for any K
METRICS: Registry[Metric] = Registry(
    "metric",
    {name: Entry(f"discffusion.evaluation.metrics.{target}") for name, target in _OWN.items()},
    group="discffusion.metrics",
    check=_wrong,
    note=" (and acc@K for any K)",
)


def metric_names() -> list[str]:
    """The names of all metrics: this package's own, then those that other packages add."""
    return list(METRICS)


def describe_metrics() -> dict[str, str]:
    """What each metric measures, in one line, by name."""
    return METRICS.describe()


def metric_named(name: str) -> Metric:
    """The metric of this name.

    Raises:
        ConfigError: there is none; the message lists all.
        InstallationError: the metric is of another package and cannot be loaded.
    """
    at_k = top(name) if isinstance(name, str) else None
    return METRICS.load(name) if at_k is None else at_k


def distinct(names: Sequence[str], records: Iterable[Any]) -> tuple[str, ...]:
    """Of metrics that a dataset names, those that do not say the same twice.

    Where every image and text has two candidates at most, of which one matches, ``acc@1`` is ``accuracy``.
    """
    if not {"accuracy", "acc@1"} <= set(names):
        return tuple(names)
    for record in records:
        shape = np.asarray(record.match).shape
        if max(shape) > 2 or shape == (2, 2):
            return tuple(names)
    return tuple(name for name in names if name != "acc@1")


def auto_metrics(items: Iterable[Any]) -> tuple[str, ...]:
    """The metrics that suit items, or records, of a list that does not say so itself.

    ``mean_score`` where nothing is compared, because all pairs match; else ``accuracy``, and ``winoground`` if all are
    two images and two texts that match one to one; ``acc@1`` where an image or a text has more than two candidates,
    ``acc@5`` where more than five of them do not match.

    Args:
        items: anything with ``match``, bool ``[n_images, n_texts]``.
    """
    chosen, seen, square = ["accuracy"], 0, True
    candidates = others = matching = 0
    for item in items:
        match = np.asarray(item.match)
        seen += 1
        square &= match.shape == (2, 2) and bool((match.sum(0) == 1).all() and (match.sum(1) == 1).all())
        candidates = max(candidates, *match.shape)
        matching += int(match.sum())
        for side in (match, match.T):
            others = max(others, *((~side).sum(axis=1) * side.any(axis=1)).tolist())
    if matching and not others:
        return ("mean_score",)
    if seen and square:
        chosen.append("winoground")
    if candidates > 2:
        chosen.append("acc@1")
    if candidates > 2 and others >= 5:
        chosen.append("acc@5")
    return tuple(chosen)
