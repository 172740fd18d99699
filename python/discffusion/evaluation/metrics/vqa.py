"""VQA accuracy of the answer ranked first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from discffusion.data.vqav2.answers import normalise
from discffusion.errors import ConfigError
from discffusion.evaluation.metrics.meta import strings
from discffusion.evaluation.metrics.metric import Metric
from discffusion.evaluation.record import Record
from discffusion.evaluation.trials import Trials

__all__ = ["METRIC", "vqa_accuracy"]


def vqa_accuracy(answer: str, answers: Sequence[str]) -> float:
    """How right an answer is by the answers of several people, 0 to 1.

    The mean, over leaving one person out, of ``min(1, agreeing / 3)`` among the others. Both sides are normalised
    always; the official script leaves unanimous answers as they are, where an answer such as "none" is never right.
    """
    given = normalise(answer)
    agree = sum(normalise(other) == given for other in answers)
    people = len(answers)
    without_agreeing, without_other = min(1.0, (agree - 1) / 3), min(1.0, agree / 3)
    return (agree * without_agreeing + (people - agree) * without_other) / people


def trials(records: list[Record]) -> Trials:
    """A trial is a question: an image with candidate answers, of which the first ranked earns its accuracy.

    Of candidates that tie for the first place the worst counts.
    """
    credit, ties = np.zeros(len(records)), np.zeros(len(records), np.intp)
    for index, record in enumerate(records):
        if len(record.scores) != 1:
            raise ConfigError(
                f"vqa: item {record.key!r} has {len(record.scores)} images; a question is about one"
            )
        answers = strings(record, "vqa", "answers", "what people answered, 10 in VQAv2")
        candidates = strings(record, "vqa", "candidates", "the candidate answers, one a text")
        scores = record.scores[0]
        if len(candidates) != len(scores) or len(answers) < 2:
            raise ConfigError(
                f"vqa: item {record.key!r} has {len(scores)} texts, {len(candidates)} candidate answers and "
                f"{len(answers)} answers of people; it needs as many candidates as texts and 2 answers or more"
            )
        first = np.flatnonzero(scores == scores.max())
        credit[index] = min(vqa_accuracy(candidates[place], answers) for place in first)
        ties[index] = len(first) - 1
    return Trials.plain(credit, np.arange(len(records)), ties)


METRIC = Metric(
    "vqa",
    "VQA accuracy of the first-ranked answer: min(1, agreeing / 3), leaving out one person at a time",
    trials,
)
