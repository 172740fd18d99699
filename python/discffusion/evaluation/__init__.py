"""How well a scorer tells matching images and texts from others: rows, metrics with intervals, comparisons."""

from __future__ import annotations

# Names are bound here at once: ``compare`` is a function, and the module of that name must not take its place.
from discffusion.evaluation.compare import Comparison, compare
from discffusion.evaluation.estimate import Estimate
from discffusion.evaluation.metrics import describe_metrics, metric_names
from discffusion.evaluation.record import Record
from discffusion.evaluation.report import Report
from discffusion.evaluation.run import evaluate, reopen

__all__ = [
    "Comparison",
    "Estimate",
    "Record",
    "Report",
    "compare",
    "describe_metrics",
    "evaluate",
    "metric_names",
    "reopen",
]
