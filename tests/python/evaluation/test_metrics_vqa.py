"""VQA accuracy by hand: how answers are made alike, how agreement counts, what a tie earns."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.python.evaluation.scored import record

from discffusion import ConfigError
from discffusion.data.vqav2.answers import normalise
from discffusion.evaluation.metrics import METRICS
from discffusion.evaluation.metrics.vqa import vqa_accuracy
from discffusion.evaluation.record import Record


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        ("Yes", "yes"),
        ("  yes\n", "yes"),
        ("two\tdogs", "2 dogs"),
        ("yes!", "yes"),
        ("The dog", "dog"),
        ("a man and an apple", "man and apple"),
        ("two", "2"),
        ("Ten people", "10 people"),
        ("zero", "0"),
        ("none", "0"),
        ("twenty", "twenty"),
        ("dont know", "don't know"),
        ("don't know", "don't know"),
        ("don’t know", "don't know"),
        ("Isnt it", "isn't it"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("theyre", "they're"),
        ("its", "its"),  # a word of its own
        ("were", "were"),
        ("we'll", "we'll"),
        ("well", "well"),
        ("red/white", "red white"),  # between letters: a space
        ("red /white", "red white"),  # beside a space: nothing
        ("red, white", "red white"),
        ("red,white", "red white"),
        ("t-shirt", "t shirt"),
        ("t -shirt", "t shirt"),
        ("1,000", "1000"),
        ("1,000-2,000", "10002000"),  # a number with a comma: every sign goes
        ("3.5", "3.5"),
        ("st. john", "st john"),
        ("u.s.a.", "usa"),
        (".5", ".5"),
        ("(maybe)", "maybe"),
        ("what?", "what"),
        ("the", ""),
        ("", ""),
    ],
)
def test_answers_are_made_alike(answer: str, normal: str) -> None:
    assert normalise(answer) == normal


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab 1,.-'?!/\ttheon", max_size=12))
def test_no_article_sign_or_capital_is_left(answer: str) -> None:
    words = normalise(answer.upper()).split(" ")
    assert not {"a", "an", "the", "one", "ten"} & set(words)
    assert not any(sign in word for word in words for sign in ",-?!/")


def leave_one_out(agree: int, people: int) -> float:
    """The definition: every subset of all people but one."""
    said = [1] * agree + [0] * (people - agree)
    return sum(min(1, sum(subset) / 3) for subset in combinations(said, people - 1)) / people


@pytest.mark.parametrize(
    ("agree", "expected"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (7, 1), (10, 1)]
)
def test_agreement_of_ten(agree: int, expected: float) -> None:
    answers = ["Two."] * agree + ["three"] * (10 - agree)
    assert vqa_accuracy("2", answers) == pytest.approx(expected)
    assert leave_one_out(agree, 10) == pytest.approx(expected)


@given(st.integers(2, 12), st.data())
def test_agreement_of_any_number_of_people(people: int, data: st.DataObject) -> None:
    agree = data.draw(st.integers(0, people))
    assert vqa_accuracy("x", ["x"] * agree + ["y"] * (people - agree)) == pytest.approx(
        leave_one_out(agree, people)
    )


def test_unanimous_answers_are_normalised_too() -> None:
    assert vqa_accuracy("none", ["none"] * 10) == 1
    assert vqa_accuracy("0", ["none"] * 10) == 1


def entry(key: str, scores: list[float], candidates: list[str], answers: Any) -> Record:
    return record(
        key,
        [scores],
        [[False] * len(scores)],  # the answers of people decide, not match
        images=(f"{key}.jpg",),
        meta={"candidates": candidates, "answers": answers},
    )


def test_the_first_ranked_answer_counts() -> None:
    answers = ["two"] * 3 + ["3"] * 7
    candidates = ["three", "two", "four"]
    records = [
        entry("a", [3, 2, 1], candidates, answers),  # 1
        entry("b", [1, 2, 0], candidates, answers),  # 0.9
        entry("c", [1, 2, 3], candidates, answers),  # 0
        entry("d", [2, 2, 0], candidates, answers),  # a tie of 1 and 0.9 earns 0.9
        entry("e", [2, 2, 2], candidates, answers),  # a tie of all earns 0
    ]
    found = METRICS["vqa"](records)[""]
    assert found.value == pytest.approx((1 + 0.9 + 0 + 0.9 + 0) / 5)
    assert (found.n, found.ties, found.method) == (5, 3, "t")


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (entry("q", [1, 2], ["a", "b"], None), r"item 'q' lacks meta\['answers'\]"),
        (entry("q", [1, 2], ["a", "b"], "yes"), r"item 'q' lacks meta\['answers'\]"),
        (entry("q", [1, 2], ["a", "b"], [{"answer": "yes"}] * 10), r"lacks meta\['answers'\]"),
        (entry("q", [1, 2], [], ["yes"] * 10), r"item 'q' lacks meta\['candidates'\]"),
        (entry("q", [1, 2], ["a"], ["yes"] * 10), "2 texts, 1 candidate answers and 10 answers"),
        (entry("q", [1, 2], ["a", "b"], ["yes"]), "2 candidate answers and 1 answers of people"),
        (record("q", [[1], [2]], [[1], [0]]), "item 'q' has 2 images; a question is about one"),
    ],
)
def test_what_is_no_question_is_refused(one: Record, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        METRICS["vqa"]([one])
