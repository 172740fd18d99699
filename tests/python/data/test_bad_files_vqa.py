"""Files of VQAv2 and of the released lists that are not what was shipped: each error names the file and the row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.python.data.published_files import vqav2
from tests.python.data.spoiling import (
    ANNOTATIONS,
    LINES,
    QUESTIONS,
    VQA,
    Cases,
    Spoil,
    build,
    check,
    gone,
    json_with,
    raw,
    row,
    void,
)

from discffusion.data import load_dataset
from discffusion.errors import DatasetError

A = "annotations"

VQAV2_CASES: Cases = [
    ("no questions", gone(QUESTIONS), ("holds none of", QUESTIONS)),
    ("no annotations", gone(ANNOTATIONS), ("holds none of", ANNOTATIONS)),
    ("questions empty", raw(QUESTIONS, b""), (QUESTIONS, "is not JSON")),
    ("no list of questions", raw(QUESTIONS, b'{"info": {}}'), (QUESTIONS, "'questions'")),
    ("no question at all", lambda root: void(vqav2(root, [])), ("holds no questions",)),
    ("annotations a list", raw(ANNOTATIONS, b"[]"), (ANNOTATIONS, "a list")),
    (
        "question without text",
        json_with(QUESTIONS, lambda v: v["questions"][4].pop("question")),
        ("question 4", "'question'"),
    ),
    (
        "question a number",
        json_with(QUESTIONS, lambda v: v["questions"].insert(2, 7)),
        (QUESTIONS, "question 2"),
    ),
    (
        "question twice",
        json_with(QUESTIONS, lambda v: v["questions"].append(v["questions"][0])),
        ("question 13", "question_id 0"),
    ),
    (
        "id a string",
        json_with(QUESTIONS, lambda v: v["questions"][4].update(question_id="4")),
        ("question 4", "question_id"),
    ),
    (
        "image negative",
        json_with(QUESTIONS, lambda v: v["questions"][4].update(image_id=-4)),
        ("question 4", "image_id"),
    ),
    (
        "annotation missing",
        json_with(ANNOTATIONS, lambda v: v[A].pop(0)),
        (QUESTIONS, "question 12", "question_id 99"),
    ),
    (
        "annotation too many",
        json_with(QUESTIONS, lambda v: v["questions"].pop(0)),
        (ANNOTATIONS, "annotation 12", "question_id 0"),
    ),
    (
        "annotation twice",
        json_with(ANNOTATIONS, lambda v: v[A].append(v[A][0])),
        ("annotation 13", "occurs twice"),
    ),
    (
        "another image",
        json_with(ANNOTATIONS, lambda v: v[A][0].update(image_id=7)),
        ("annotation 0", "image 7"),
    ),
    (
        "answer type",
        json_with(ANNOTATIONS, lambda v: v[A][0].update(answer_type="yes")),
        ("annotation 0", "answer_type"),
    ),
    (
        "nine answers",
        json_with(ANNOTATIONS, lambda v: v[A][0]["answers"].pop()),
        ("annotation 0", "9 answers"),
    ),
    (
        "answer null",
        json_with(ANNOTATIONS, lambda v: v[A][0]["answers"][3].update(answer=None)),
        ("annotation 0, answer 3",),
    ),
    (
        "answer a string",
        json_with(ANNOTATIONS, lambda v: v[A][0]["answers"].__setitem__(3, "x")),
        ("annotation 0, answer 3",),
    ),
    (
        "no choice",
        json_with(ANNOTATIONS, lambda v: v[A][0].pop("multiple_choice_answer")),
        ("annotation 0", "multiple_choice_answer"),
    ),
]

VQA_CASES: Cases = [
    ("no csv", gone(VQA), ("holds none of", VQA)),
    ("empty csv", raw(VQA, b""), (VQA, "is empty")),
    (
        "header alone",
        raw(VQA, b"sentence,pos_image_id," + b",".join(b"neg_sentence_%d" % n for n in range(1, 10))),
        (VQA, "no rows"),
    ),
    ("eight negatives", row(VQA, ",neg_sentence_9", ",other"), (VQA, "'neg_sentence_9'")),
    ("image a name", row(VQA, "la,108327", "la,COCO_1.jpg"), (VQA, "line 2", "pos_image_id")),
    ("image too long", row(VQA, "la,108327", "la," + "9" * 13), (VQA, "line 2", "pos_image_id")),
    ("field missing", row(VQA, ",Is anyone wearing a hat? metro", ""), (VQA, "line 4", "10 fields")),
]

LINES_CASES: Cases = [
    ("no list", gone("test.txt"), ("holds none of test.txt",)),
    ("empty list", raw("test.txt", b"\n\n"), ("test.txt", "no rows")),
    ("no star", row("test.txt", "000003.jpg*", "000003.jpg "), ("test.txt", "line 4")),
    (
        "no colon",
        row("test.txt", "others: what? it is 3\n", "others what? it is 3\n"),
        ("test.txt", "line 4"),
    ),
    ("other beginning", row("test.txt", "The question", "A question"), ("test.txt", "line 1")),
    ("unknown kind", row("test.txt", "others", "colours"), ("test.txt", "line 1", "'colours'")),
    ("too few images", raw("test.txt", "\n".join(LINES[:9]).encode()), ("test.txt", "line 1", "9 images")),
]


def named(cases: Cases) -> list[Any]:
    return [pytest.param(spoil, parts, id=what) for what, spoil, parts in cases]


@pytest.mark.parametrize(("spoil", "parts"), named(VQAV2_CASES))
def test_vqav2(tmp_path: Path, spoil: Spoil, parts: tuple[str, ...]) -> None:
    check("vqav2", tmp_path, {}, spoil, parts)


@pytest.mark.parametrize(("spoil", "parts"), named(VQA_CASES))
def test_released_texts(tmp_path: Path, spoil: Spoil, parts: tuple[str, ...]) -> None:
    check("vqa_csv", tmp_path, {}, spoil, parts)


@pytest.mark.parametrize(("spoil", "parts"), named(LINES_CASES))
def test_released_lines(tmp_path: Path, spoil: Spoil, parts: tuple[str, ...]) -> None:
    check("vqa_csv", tmp_path, {"layout": "images"}, spoil, parts)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b'"yes"', "expected a list or an object"),
        (b'{"yes": "many", "no": 2}', "yes is 'many'"),
        (b'["a", null]', "answer 1"),
        (b"[]", "holds 0 answers"),
    ],
)
def test_bad_lists_of_answers(tmp_path: Path, content: bytes, message: str) -> None:
    build("vqav2", tmp_path)
    (tmp_path / "answers.json").write_bytes(content)
    with pytest.raises(DatasetError, match=rf"answers.json.*{message}"):
        load_dataset("vqav2", tmp_path, answers="answers.json")
