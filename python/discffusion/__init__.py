"""Image-text matching scores from text-to-image diffusion models.

    >>> from discffusion import Scorer
    >>> scorer = Scorer()
    >>> scorer.score("photo.jpg", "a red circle left of a blue square")

Public names are resolved on first use, so that importing the package loads neither the core nor its libraries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from discffusion import errors
from discffusion._version import __version__
from discffusion.errors import *  # noqa: F403

if TYPE_CHECKING:
    from discffusion.config import ScoreConfig
    from discffusion.data import MatchItem, load_dataset
    from discffusion.deltas import Deltas
    from discffusion.evaluation.compare import compare
    from discffusion.evaluation.report import Report
    from discffusion.evaluation.run import evaluate
    from discffusion.explanation import Explanation
    from discffusion.scorer import Observation, Scorer
    from discffusion.shards.run import score_shards
    from discffusion.trainer import Trainer
    from discffusion.training.history import History

# public name -> the module that defines it
_HOMES = {
    "Deltas": "discffusion.deltas",
    "Explanation": "discffusion.explanation",
    "History": "discffusion.training.history",
    "MatchItem": "discffusion.data",
    "Observation": "discffusion.scorer",
    "Report": "discffusion.evaluation",
    "ScoreConfig": "discffusion.config",
    "Scorer": "discffusion.scorer",
    "Trainer": "discffusion.trainer",
    "compare": "discffusion.evaluation",
    "evaluate": "discffusion.evaluation",
    "load_dataset": "discffusion.data",
    "score_shards": "discffusion.shards",
}

__all__ = [
    "Deltas",
    "Explanation",
    "History",
    "MatchItem",
    "Observation",
    "Report",
    "ScoreConfig",
    "Scorer",
    "Trainer",
    "__version__",
    "compare",
    "evaluate",
    "load_dataset",
    "score_shards",
]
__all__ += errors.__all__


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value  # the next use finds it at once
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
