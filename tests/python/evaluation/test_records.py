"""Records of scored items, and which of them are independent."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tests.python.evaluation.scored import record

from discffusion import DatasetError, MatchItem
from discffusion.evaluation.record import Record, clusters_of


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: record("k", [[1.0, np.nan]], [[1, 0]]), "item 'k': a score is NaN"),
        (lambda: record("k", [[1.0, 2.0]], [[1], [0]]), r"shape \(1, 2\) and match \(2, 1\)"),
        (lambda: record("k", [1.0, 2.0], [1, 0]), r"shape \(2,\)"),
        (lambda: record("k", np.zeros((0, 2)), np.zeros((0, 2))), r"shape \(0, 2\)"),
        (lambda: record("k", [[1.0, 2.0]], [[1, 0]], images=("a", "b")), "2 image references"),
        (lambda: record("k", [[1.0, 2.0]], [[1, 0]], texts=("a",)), "1 texts"),
    ],
)
def test_a_malformed_record_is_refused(make: Callable[[], Record], words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        make()


def test_a_record_of_an_item_takes_its_references() -> None:
    item = MatchItem(
        "k", ["x", "y"], ["t"], np.array([[1], [0]]), "g", {"images": ["a.jpg", "b.jpg"], "n": 1}
    )
    found = Record.of(item, np.array([[1.0], [2.0]]))
    assert (found.key, found.group, found.images, found.texts) == ("k", "g", ("a.jpg", "b.jpg"), ("t",))
    assert found.meta["n"] == 1
    bare = Record.of(MatchItem("k", ["x", "y"], ["t"], np.array([[1], [0]])), np.zeros((2, 1)))
    assert bare.images == ("k#0", "k#1")


def test_image_groups_are_connected_by_matching_images() -> None:
    two = np.eye(2)
    records = [
        record("a", two, two, images=("p", "q")),
        record("b", two, two, images=("r", "s")),
        record("c", [[0], [1]], [[0], [1]], images=("p", "t")),  # p does not match here
        record("d", two, two, images=("s", "u")),
        record("e", [[0], [1]], [[1], [0]], images=("u", "p")),
        record("f", [[0]], [[0]], images=("q",)),  # nothing matches: its first image counts
    ]
    assert clusters_of(records).tolist() == [0, 1, 2, 1, 1, 0]


def test_parts_of_an_image_are_one_group() -> None:
    names = ["a.jpg#1,2,30,40", "a.jpg#5.5,2,30,40", "a.jpg", "b.jpg#1,2,30,40", "k#0", "k#1"]
    records = [record(f"{index}", [[0]], [[1]], images=(name,)) for index, name in enumerate(names)]
    assert clusters_of(records).tolist() == [0, 0, 0, 1, 2, 3]
