"""Acc@K: how often a matching candidate is among the first K."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from discffusion.errors import ConfigError
from discffusion.evaluation.metrics.metric import Metric
from discffusion.evaluation.record import Record
from discffusion.evaluation.trials import Trials

__all__ = ["ACC_1", "ACC_5", "ahead", "top"]


def ahead(scores: NDArray[np.float64], match: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """How many candidates that do not match come before the best that does, a tie counting as before.

    Args:
        scores: float64 ``[n_queries, n_candidates]``.
        match: bool of the same shape; each query has a matching candidate.

    Returns:
        The number of those before, ties among them, and the number of ties, int ``[n_queries]`` each.
    """
    best = np.where(match, scores, -np.inf).max(axis=1, keepdims=True)
    before, tied = (scores >= best) & ~match, (scores == best) & ~match
    return before.sum(axis=1), tied.sum(axis=1)


def top(name: str) -> Metric | None:
    """The metric of a name such as ``"acc@5"``, or None if it is no such name."""
    pattern = re.fullmatch(r"acc@([1-9]\d{0,5})", name)
    if pattern is None:
        return None
    k = int(pattern[1])

    def trials(records: list[Record]) -> Trials:
        """A trial is a query: 1 if a matching candidate is among the first K."""
        credit, owner, ties, out = [], [], [], 0
        for index, record in enumerate(records):
            for scores, match in _queries(record):
                # with fewer rivals than K nothing can be missed, without a match nothing can be hit
                asked = match.any(axis=1) & ((~match).sum(axis=1) >= k)
                before, tied = ahead(scores[asked], match[asked])
                credit.append((before < k).astype(np.float64))
                ties.append(tied)
                owner.append(np.full(len(before), index))
                out += int((~asked).sum())
        hits = np.concatenate(credit)
        if len(hits) == 0:
            raise ConfigError(
                f"acc@{k}: no image or text has a candidate that matches beside {k} or more that do not, so a hit "
                "would say nothing"
            )
        note = (
            f"{out} queries without a match, or with fewer than {k} others, are left out of acc@{k}"
            if out
            else ""
        )
        return Trials.plain(hits, np.concatenate(owner), np.concatenate(ties), note)

    return Metric(name, f"share of queries whose matching candidate is among the first {k}", trials)


def _queries(record: Record) -> Iterator[tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """One image asks for its text, one text for its image, several of both for each other: rows of candidates."""
    images, texts = record.scores.shape
    if texts > 1 or images == 1:
        yield record.scores, record.match
    if images > 1:
        yield record.scores.T, record.match.T


ACC_1, ACC_5 = top("acc@1"), top("acc@5")
