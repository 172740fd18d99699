"""Retrieval: how often a matching text of an image, or image of a text, is among the first K of all."""

from __future__ import annotations

import numpy as np

from discffusion.errors import ConfigError
from discffusion.evaluation.metrics.metric import Metric
from discffusion.evaluation.metrics.top import ahead
from discffusion.evaluation.record import Record
from discffusion.evaluation.trials import Trials

__all__ = ["METRIC"]

_KS = (1, 5, 10)


def trials(records: list[Record]) -> Trials:
    """A trial is a query: an image that asks for one of its texts, or a text that asks for its image.

    Intervals are for other queries to the same candidates; the texts of an image are one group.
    """
    first = records[0]
    for record in records:
        if len(record.scores) != 1:
            raise ConfigError(
                f"retrieval: item {record.key!r} has {len(record.scores)} images; each needs one"
            )
        same = record.texts is first.texts or record.texts == first.texts
        if not same or record.scores.shape != first.scores.shape:
            raise ConfigError(
                f"retrieval: items {first.key!r} and {record.key!r} have different texts; every image must be "
                "scored with the same list of texts"
            )
    scores = np.concatenate([record.scores for record in records])
    match = np.concatenate([record.match for record in records])
    parts, left_out = {}, []
    for name, values, right in (("image_to_text", scores, match), ("text_to_image", scores.T, match.T)):
        asked = right.any(axis=1)
        rivals = (~right).sum(axis=1)
        # the record of a query: its image, or the first image of its text
        owner = np.arange(len(records)) if name == "image_to_text" else right.argmax(axis=1)
        before, tied = np.zeros((2, len(values)), np.intp)
        before[asked], tied[asked] = ahead(values[asked], right[asked])
        if not asked.all():
            left_out.append(f"{int((~asked).sum())} queries of {name} have no match and are left out")
        for k in _KS:
            # with fewer rivals than K nothing can be missed
            kept = asked & (rivals >= k)
            if kept.any():
                hit = (before[kept] < k).astype(np.float64)
                parts[f"{name}@{k}"] = Trials.plain(hit, owner[kept], tied[kept], *left_out)
    if not parts:
        raise ConfigError("retrieval: no image or text has candidates that match beside others that do not")
    return Trials.by_name(parts)


METRIC = Metric(
    "retrieval",
    "share of images with a text of theirs among the first 1, 5, 10 of all texts, and of texts with their image",
    trials,
    by_group=False,
)
