"""Pictures generated for the captions of drawn scenes, and what they show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from discffusion.data.shapes.judge import judge
from discffusion.evaluation.record import Record

if TYPE_CHECKING:
    from discffusion.scorer import Scorer

__all__ = ["ASPECTS", "STEPS", "Asked", "asked", "generated_images", "judged"]

#: of DDIM, as in the paper
STEPS = 50
#: what an image is asked for
ASPECTS = ("subject", "object", "both", "relation")


@dataclass(frozen=True)
class Asked:
    """A caption of a drawn scene, what it names, and the drawing."""

    key: str
    caption: str
    subject: str
    relation: str
    object: str
    drawing: Any


def asked(items: Iterable[Any], n: int) -> list[Asked]:
    """The first `n` captions of items of ``shapes``, all different."""
    by_caption: dict[str, Asked] = {}
    for item in items:
        for index, caption in enumerate(item.meta["captions"]):
            (subject, *_), (other, *_) = item.meta["boxes"][index]
            relation = item.meta["relations"][index]
            by_caption.setdefault(
                caption, Asked(f"{item.key}/{index}", caption, subject, relation, other, item.images[index])
            )
            if len(by_caption) == n:
                return list(by_caption.values())
    return list(by_caption.values())


def generated_images(scorer: Scorer, wanted: Sequence[Asked], seed: int) -> list[Any]:
    """An image for each caption; every caption has noise of its own, the same for every scorer."""
    seeds = [1_000_000 * (seed + 1) + place for place in range(len(wanted))]
    return scorer.generate([each.caption for each in wanted], steps=STEPS, seed=seeds, progress=False)


def judged(wanted: Sequence[Asked], made: Sequence[Any]) -> dict[str, list[Record]]:
    """By aspect, a record an image: that it is there is the right answer, and the judge gives the score."""
    by_aspect: dict[str, list[Record]] = {aspect: [] for aspect in ASPECTS}
    for each, image in zip(wanted, made, strict=True):
        verdict = judge(image, each.subject, each.relation, each.object)
        answers = (verdict.subject, verdict.object, verdict.things, verdict.relation)
        for aspect, answer in zip(ASPECTS, answers, strict=True):
            scores = np.array([[float(answer), float(not answer)]])
            by_aspect[aspect].append(Record(each.key, scores, np.array([[True, False]]), images=(each.key,)))
    return by_aspect
