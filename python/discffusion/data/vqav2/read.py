"""The annotation files of VQAv2, joined and checked, and lists of answers to choose from."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from discffusion.data.files import field, read_json
from discffusion.data.left_out import text_field
from discffusion.data.vqav2.answers import normalise
from discffusion.errors import DatasetError, DatasetOptionError

__all__ = ["KINDS", "POOL", "Question", "answer_list", "digest", "frequent", "questions"]

#: what the field ``answer_type`` is called in the paper and here
KINDS = {"yes/no": "binary", "number": "number", "other": "other"}
#: from how many of the most frequent answers of a kind wrong ones are drawn
POOL = {"number": 100, "other": 1000}
_PEOPLE = 10


class Question(NamedTuple):
    """A question about an image and what people answered."""

    question_id: int
    image_id: int
    question: str
    kind: str
    question_type: str
    answer: str  # the most frequent one
    answers: tuple[str, ...]  # of ten people
    where: str


def questions(asked: Path, answered: Path) -> list[Question]:
    """The questions of a file in its order, each with its annotation from the other file; a question may be ``""``."""
    annotations: dict[int, tuple[int, dict[str, Any]]] = {}
    for number, record in enumerate(field(read_json(answered, dict), "annotations", list, str(answered))):
        identity = field(record, "question_id", int, f"{answered}, annotation {number}")
        if identity in annotations:
            raise DatasetError(f"{answered}, annotation {number}: question_id {identity} occurs twice")
        annotations[identity] = (number, record)
    rows: list[Question] = []
    for number, record in enumerate(field(read_json(asked, dict), "questions", list, str(asked))):
        where = f"{asked}, question {number}"
        identity = field(record, "question_id", int, where)
        if identity not in annotations:
            raise DatasetError(
                f"{where}: question_id {identity} has no annotation in {answered}, or occurs twice"
            )
        place, annotation = annotations.pop(identity)
        image_id, text = field(record, "image_id", int, where), text_field(record, "question", where).strip()
        if image_id < 0:
            raise DatasetError(f"{where}: image_id is {image_id}")
        question = _joined(identity, image_id, text, annotation, f"{answered}, annotation {place}")
        rows.append(question if text else question._replace(where=where))
    if annotations:
        identity, (place, _) = next(iter(annotations.items()))
        raise DatasetError(
            f"{answered}, annotation {place}: question_id {identity} is not in {asked} ({len(annotations)} such); the "
            "two files are not of the same split"
        )
    return rows


def _joined(identity: int, image_id: int, text: str, annotation: dict[str, Any], where: str) -> Question:
    if field(annotation, "image_id", int, where) != image_id:
        raise DatasetError(f"{where} is of image {annotation['image_id']}, its question of image {image_id}")
    answer_type = field(annotation, "answer_type", str, where)
    if answer_type not in KINDS:
        raise DatasetError(f"{where}: answer_type is {answer_type!r}; expected one of {', '.join(KINDS)}")
    answer = field(annotation, "multiple_choice_answer", str, where)
    given = field(annotation, "answers", list, where)
    if len(given) != _PEOPLE:
        raise DatasetError(f"{where} has {len(given)} answers; expected those of {_PEOPLE} people")
    answers: tuple[Any, ...] = tuple(one.get("answer") if isinstance(one, dict) else None for one in given)
    for place, one in enumerate(answers):
        if not isinstance(one, str):  # there are millions of them, so what is wrong is worded only then
            field(given[place], "answer", str, f"{where}, answer {place}")
    question_type = field(annotation, "question_type", str, where)
    return Question(identity, image_id, text, KINDS[answer_type], question_type, answer, answers, where)


def frequent(asked: Sequence[Question]) -> dict[str, list[str]]:
    """The most frequent answers of every kind in :data:`POOL`, the more frequent first, equals by the alphabet.

    Of answers that VQA accuracy holds to be the same, the most frequent stands for all.
    """
    pools: dict[str, list[str]] = {}
    for kind, size in POOL.items():
        counts = Counter(question.answer for question in asked if question.kind == kind)
        distinct: dict[str, str] = {}
        for answer in sorted(counts, key=lambda answer: (-counts[answer], answer)):
            distinct.setdefault(normalise(answer), answer)
        distinct.pop("", None)
        pools[kind] = list(distinct.values())[:size]
    return pools


def answer_list(given: Any, root: Path) -> list[str]:
    """A fixed list of candidate answers.

    Args:
        given: the answers; or a JSON file, by its path or its path in `root`, of a list of answers or of an object
            that gives every answer its count (as ``major_answers.json``; the more frequent come first).
    """
    where = "answers"
    if isinstance(given, str | Path):
        path = next((path for path in (Path(given).expanduser(), root / given) if path.is_file()), None)
        if path is None:
            raise DatasetError(
                f"vqav2: there is no file {str(given)!r}, nor in {root}; answers= names a JSON file"
            )
        where, given = str(path), read_json(path, (list, dict))
    if isinstance(given, Mapping):
        counts: dict[str, float] = {answer: field(given, answer, (int, float), where) for answer in given}
        given = sorted(counts, key=lambda answer: -counts[answer])
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        raise DatasetOptionError(
            f"answers is {type(given).__name__}; expected a list of strings or a JSON file"
        )
    seen = set[str]()
    for number, answer in enumerate(given):
        if not isinstance(answer, str):
            raise DatasetError(f"{where}, answer {number} is {type(answer).__name__}; expected a string")
        if answer in seen:
            raise DatasetError(f"{where}, answer {number}: {answer!r} occurs twice")
        seen.add(answer)
    if len(seen) < 2:
        raise DatasetError(f"{where} holds {len(seen)} answers; ranking needs two or more")
    return list(given)


def digest(answers: Any) -> str:
    """Identifies a list, or lists, of answers."""
    return hashlib.sha256(repr(answers).encode()).hexdigest()[:16]
