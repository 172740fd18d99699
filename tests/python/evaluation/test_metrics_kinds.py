"""The metric ``kinds``, counted by hand."""

from __future__ import annotations

import pytest
from tests.python.evaluation.scored import record

from discffusion import ConfigError, compare
from discffusion.evaluation.metrics import METRICS
from discffusion.evaluation.record import Record

MATCH = [[0, 1, 1, 0, 0, 0]]
KINDS = ["empty", "caption", "longer", "word", "word", "wrong"]


def of(key: str, scores: list[float], kinds: object = KINDS) -> Record:
    return record(key, [scores], MATCH, meta={"kinds": kinds})


def test_the_first_matching_text_is_compared_with_each_kind() -> None:
    records = [
        of("a", [0, 5, 9, 1, 2, 3]),  # above all that do not match; the longer caption does not count
        of("b", [5, 5, 0, 1, 7, 3]),  # a tie with the empty text, below one of two words
        of("c", [0, 4, 9, 1, 2, 6]),  # below the wrong one, which the longer caption is above
    ]
    found = METRICS["kinds"](records)
    assert list(found) == ["", "empty", "word", "wrong"]
    values = {name: estimate.value for name, estimate in found.items()}
    assert values == pytest.approx({"": 1 / 3, "empty": 2 / 3, "word": 2.5 / 3, "wrong": 2 / 3})
    assert {name: estimate.ties for name, estimate in found.items()} == {
        "": 1,
        "empty": 1,
        "word": 0,
        "wrong": 0,
    }
    assert all(estimate.n == 3 for estimate in found.values())
    assert METRICS["acc@1"](records)[""].value == pytest.approx(2 / 3)


def test_an_item_need_not_have_every_kind() -> None:
    found = METRICS["kinds"]([of("a", [0, 1, 0, 0, 0, 0]), of("b", [0, 1, 0, 0, 0, 2], [*KINDS[:5], "rare"])])
    assert (found["wrong"].value, found["wrong"].n) == (1, 1)
    assert (found["rare"].value, found["rare"].n) == (0, 1)


def test_two_runs_are_compared_by_a_kind() -> None:
    better = [of(f"{i}", [0, 1, 0, 0, 0, 0]) for i in range(8)]
    worse = [of(f"{i}", [2, 1, 0, 0, 0, 0]) for i in range(8)]
    assert compare(better, worse, "kinds/empty").difference == compare(better, worse, "kinds").difference == 1
    assert compare(better, worse, "kinds/word").difference == 0


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (of("q", [0] * 6, None), r"item 'q' lacks meta\['kinds'\]: the kind of each text"),
        (of("q", [0] * 6, "word"), r"item 'q' lacks meta\['kinds'\]"),
        (of("q", [0] * 6, KINDS[:5]), "item 'q' has 6 texts and the kinds .*; each text needs one"),
        (of("q", [0] * 6, [*KINDS[:5], ""]), "each text needs one"),
        (record("q", [[1], [2]], [[1], [0]]), "item 'q' has 2 images"),
        (record("q", [[1, 2]], [[1, 1]], meta={"kinds": ["a", "b"]}), "holds no matching text beside one"),
        (record("q", [[1, 2]], [[0, 0]], meta={"kinds": ["a", "b"]}), "holds no matching text beside one"),
    ],
)
def test_what_has_no_kinds_is_refused(one: Record, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        METRICS["kinds"]([one])
