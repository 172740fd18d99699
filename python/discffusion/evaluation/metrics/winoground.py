"""Winoground's text, image and group score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from discffusion.errors import ConfigError
from discffusion.evaluation.metrics.metric import Metric
from discffusion.evaluation.record import Record
from discffusion.evaluation.trials import Trials

__all__ = ["METRIC"]


def trials(records: list[Record]) -> Trials:
    """Three trials an item: both images prefer their text, both texts prefer their image, and both at once."""
    for record in records:
        match = record.match
        if match.shape != (2, 2) or not (match.sum(axis=0) == 1).all() or not (match.sum(axis=1) == 1).all():
            raise ConfigError(
                f"winoground: item {record.key!r} is not two images and two texts that match one to one "
                f"(its shape is {match.shape[0]} × {match.shape[1]}, {int(match.sum())} pairs match)"
            )
    scores = np.stack([record.scores for record in records])
    match = np.stack([record.match for record in records])
    own, other = np.where(match, scores, -np.inf), np.where(match, -np.inf, scores)
    # along the texts of each image, then along the images of each text
    text, text_ties = _preferred(own.max(axis=2), other.max(axis=2))
    image, image_ties = _preferred(own.max(axis=1), other.max(axis=1))
    index = np.arange(len(records))
    parts = {
        "text": (text, text_ties),
        "image": (image, image_ties),
        "group": (text & image, text_ties + image_ties),
    }
    return Trials.by_name(
        {name: Trials.plain(won.astype(np.float64), index, ties) for name, (won, ties) in parts.items()}
    )


def _preferred(
    own: NDArray[np.float64], other: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Whether both choices of an item are right, and how many of them are ties: ``[n]`` each, of ``[n, 2]``."""
    right: NDArray[np.bool_] = np.all(own > other, axis=1)
    return right, (own == other).sum(axis=1)


METRIC = Metric(
    "winoground",
    "text, image and group score of two images and two texts that match one to one; chance is 25, 25 and 16.7 %",
    trials,
)
