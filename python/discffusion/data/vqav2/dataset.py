"""VQAv2: an image and a question with candidate answers, each a text of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from discffusion.data.files import folder, item, one_of
from discffusion.data.item import MatchItem
from discffusion.data.lazy import Dataset
from discffusion.data.left_out import LeftOut
from discffusion.data.options import chosen, image_folder, leading, wander, whole
from discffusion.data.present import Locator, keep_present
from discffusion.data.shapes.randomness import generator, shuffled
from discffusion.data.vqav2.answers import normalise
from discffusion.data.vqav2.read import KINDS, Question, answer_list, digest, frequent, questions
from discffusion.errors import DatasetError, DatasetOptionError

__all__ = ["SUBSETS", "load"]

SUBSETS = tuple(KINDS.values())
#: COCO's names of the splits; the answers to the questions of the last two were never published
_PARTS = {"train": "train2014", "val": "val2014", "test": "test2015", "test-dev": "test-dev2015"}
_EXPECTED = (
    "v2_OpenEnded_mscoco_val2014_questions.json, v2_mscoco_val2014_annotations.json and the folder val2014 (or the "
    "same of train2014)"
)


class _Row(NamedTuple):
    question: Question
    place: str | None


def load(
    root: Any = None,
    split: str = "val",
    subset: str | None = None,
    candidates: int | None = None,
    answers: Any = None,
    seed: int = 0,
    fraction: float | None = None,
    allow_missing: bool = False,
    image_root: Any = None,
) -> Dataset[_Row]:
    """The dataset ``vqav2``: 1 image and several texts an item; a text is the question, a blank and an answer.

    Which answers: for ``binary`` questions yes and no. For the others the right one and wrong ones of the same kind,
    drawn from the most frequent answers of the split's annotations (100 for ``number``, 1000 for ``other``); what any
    of the ten people answered is never a wrong one. Draws and order depend on the seed and the question alone. With
    `answers`, every item has the same list, and none of its texts matches where the list lacks the right answer.

    ``meta["answers"]`` holds the ten people's answers and ``meta["candidates"]`` the answer of every text, as the
    metric ``vqa`` wants them. It is comparable with published VQA accuracy only with a fixed list of answers.

    Args:
        root: folder of the questions, the annotations and the images of COCO.
        split: ``"val"`` or ``"train"``.
        subset: ``"binary"``, ``"number"``, ``"other"`` or None for all.
        candidates: texts an item, the right one included, 10 if None; with `answers`, the first ones of the list, all
            if None.
        answers: a fixed list of answers, or a JSON file of one such as ``major_answers.json``.
        seed: of the draws.
        fraction: this share of the questions from the file's beginning, before a subset is taken of them.
        allow_missing: leave items out whose image is not there. Items that lack their question are left out and
            counted in ``about["notes"]``.
        image_root: folder of ``train2014`` and ``val2014`` where that is not `root`.

    Raises:
        DatasetError: a file, record or image is missing or malformed, or an option is unknown.
    """
    base = folder(root, "vqav2", _EXPECTED)
    chosen("vqav2", "split", split, _PARTS)
    if subset is not None:
        chosen("vqav2", "subset", subset, SUBSETS)
    whole("seed", seed, 0, 2**63 - 1)
    if candidates is not None:
        whole("candidates", candidates, 2, 100_000)
    everything = _questions(base, split)
    fixed = None if answers is None else answer_list(answers, base)[:candidates]
    pools = frequent(everything)
    taken = list(leading("vqav2", everything, fraction))
    taken = [question for question in taken if subset in (None, question.kind)]
    left = LeftOut("vqav2", base)
    taken = left.with_texts(taken, lambda one: one.where, lambda one: {"question": one.question})
    if not taken:
        raise DatasetError(
            f"vqav2: the split {split!r} holds no questions" + (f" of {subset!r}" if subset else "")
        )
    count = 10 if candidates is None else candidates
    if fixed is None:
        _check_pools(taken, pools, count)

    part = _PARTS[split]
    images = image_folder(base, image_root, "vqav2")
    find = Locator(images, (part, f"images/{part}", "images", ""))
    names = {question.image_id: f"COCO_{part}_{question.image_id:012d}.jpg" for question in taken}
    places = {image_id: find(name) for image_id, name in names.items()}
    rows = [_Row(question, places[question.image_id]) for question in taken]
    kept, missing = keep_present(
        rows,
        lambda row: [(names[row.question.image_id], row.place)],
        name="vqav2",
        hint=f"Fetch {part}.zip of COCO; its images belong in {part} below the root, or below image_root=",
        allow_missing=allow_missing,
    )

    def build(row: _Row) -> MatchItem:
        question = row.question
        key = f"vqav2/{split}/{question.question_id}"
        options = fixed if fixed is not None else _candidates(question, pools, count, (key, seed))
        right = normalise(question.answer)
        match = np.array([[option == question.answer or normalise(option) == right for option in options]])
        meta = {
            "images": [row.place],
            "question": question.question,
            "question_id": question.question_id,
            "question_type": question.question_type,
            "answers": list(question.answers),
            "candidates": list(options),
        }
        texts = [f"{question.question} {option}" for option in options]
        path = images / str(row.place)
        return item(question.where, key, [path], texts, match, group=question.kind, meta=meta)

    about = {
        "split": split,
        "subset": subset,
        "candidates": candidates if fixed is not None else count,
        "answers": digest(fixed) if fixed is not None else None,
        "pool": digest(pools) if fixed is None else None,
        "seed": seed if fixed is None else None,
        "fraction": fraction,
        "notes": _notes(taken, fixed, count) + left.notes(len(taken)),
    }
    metrics = ("vqa",) if fixed is not None else ("accuracy", "acc@1", "vqa")
    expected = len(rows) + len(left)
    return Dataset("vqav2", kept, build, metrics=metrics, expected=expected, missing=missing, about=about)


def _questions(base: Path, split: str) -> list[Question]:
    part = _PARTS[split]
    if split.startswith("test"):
        raise DatasetOptionError(
            f"vqav2: the answers to the questions of {part} were never published (its annotations do not exist), so "
            "nothing can be compared; use split='val' or 'train'"
        )
    asked = one_of(base, [f"v2_OpenEnded_mscoco_{part}_questions.json"], f"vqav2, split {split!r}")
    answered = one_of(base, [f"v2_mscoco_{part}_annotations.json"], f"vqav2, split {split!r}")
    return questions(asked, answered)


def _wrong(question: Question, pool: Sequence[str]) -> list[str]:
    """Answers of the pool that nobody gave, in its order."""
    given = {normalise(answer) for answer in (question.answer, *question.answers)}
    return [answer for answer in pool if normalise(answer) not in given]


def _candidates(
    question: Question, pools: dict[str, list[str]], count: int, parts: tuple[object, ...]
) -> list[str]:
    rng = generator(*parts)
    if question.kind == "binary":
        wrong = [answer for answer in ("yes", "no") if answer != normalise(question.answer)]
        return shuffled(rng, [question.answer, *wrong])
    usable = _wrong(question, pools[question.kind])
    drawn = [usable[index] for index, _ in zip(wander(rng, len(usable)), range(count - 1), strict=False)]
    return shuffled(rng, [question.answer, *drawn])


def _check_pools(taken: Sequence[Question], pools: dict[str, list[str]], count: int) -> None:
    for question in taken:
        # at most eleven answers of a pool are ruled out, so only small pools need a look
        if question.kind == "binary" or len(pools[question.kind]) >= count + 10:
            continue
        usable = len(_wrong(question, pools[question.kind]))
        if usable < count - 1:
            raise DatasetOptionError(
                f"{question.where}: the split has {usable} wrong answers of the kind {question.kind!r} for it; "
                f"candidates={count} needs {count - 1}"
            )


def _notes(taken: Sequence[Question], fixed: Sequence[str] | None, count: int) -> list[str]:
    if fixed is None:
        return [
            f"the answers are chosen from 2 (binary) or {count} (number, other) candidates: not comparable with VQA "
            "accuracy over a fixed list of answers"
        ]
    listed = {normalise(answer) for answer in fixed}
    there = sum(normalise(question.answer) in listed for question in taken)
    return [
        f"the list of {len(fixed)} answers holds the most frequent answer of {there} of {len(taken)} questions"
    ]
