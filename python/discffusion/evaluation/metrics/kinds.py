"""Kinds of texts: how often the caption of an image scores above those of each kind."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from discffusion.errors import ConfigError
from discffusion.evaluation.metrics.meta import strings
from discffusion.evaluation.metrics.metric import Metric
from discffusion.evaluation.record import Record
from discffusion.evaluation.trials import Trials

__all__ = ["METRIC"]


def trials(records: list[Record]) -> Trials:
    """A trial is an item, once for all its texts that do not match and once for each kind of these.

    The caption is the first text that matches; the others that do are compared with nothing. The value without a name
    is 1 where the caption scores above every text that does not match. That of a kind is the share of its texts that
    the caption scores above.
    """
    found: dict[str, list[tuple[float, int, int]]] = defaultdict(list)  # credit, record, ties
    for index, record in enumerate(records):
        kinds = np.array(_kinds(record))
        scores, match = record.scores[0], record.match[0]
        rivals, caption = ~match, scores[match.argmax()]
        below, tied = scores < caption, scores == caption
        found[""].append((float(below[rivals].all()), index, int(tied[rivals].sum())))
        for kind in dict.fromkeys(kinds[rivals].tolist()):
            of_kind = rivals & (kinds == kind)
            found[kind].append((float(below[of_kind].mean()), index, int(tied[of_kind].sum())))
    parts = {}
    for name, of_name in found.items():
        credit, owner, ties = zip(*of_name, strict=True)
        parts[name] = Trials.plain(np.array(credit), np.array(owner, np.intp), np.array(ties, np.intp))
    return Trials.by_name(parts)


def _kinds(record: Record) -> list[str]:
    """The kind of each text.

    Raises:
        ConfigError: there is not one for each, or the item does not compare texts of one image.
    """
    if len(record.scores) != 1:
        raise ConfigError(
            f"kinds: item {record.key!r} has {len(record.scores)} images; its texts must be of one"
        )
    kinds = strings(record, "kinds", "kinds", "the kind of each text")
    if len(kinds) != record.scores.shape[1] or "" in kinds:
        raise ConfigError(
            f"kinds: item {record.key!r} has {record.scores.shape[1]} texts and the kinds {kinds}; each text needs one"
        )
    if record.match.all() or not record.match.any():
        raise ConfigError(f"kinds: item {record.key!r} holds no matching text beside one that does not match")
    return kinds


METRIC = Metric(
    "kinds",
    "share of images whose caption scores above all texts that do not match, and above those of each kind",
    trials,
)
