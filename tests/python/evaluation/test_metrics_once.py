"""No figure occurs twice in a report under two names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.python.data.published_files import picture
from tests.python.data.tables import as_jsonl

from discffusion import evaluate, load_dataset


class ByLength:
    """The longer text, the better; remembers nothing."""

    def matrix(self, images: Any, texts: Any) -> np.ndarray:
        return np.array([[float(len(text)) for text in texts] for _ in images])


def report(root: Path, rows: list[dict[str, Any]], **options: Any) -> Any:
    picture(root / "a.png", seed=1)
    picture(root / "b.png", seed=2)
    return evaluate(ByLength(), load_dataset("table", as_jsonl(root / "t.jsonl", rows), **options))


ONE = [{"image": "a.png", "text": text, "no": "cat", "g": "x"} for text in ("a dog", "it", "a cow", "cow")]


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        (ONE, {"negative_texts": "no"}),
        (ONE, {"negative_texts": ["no"], "group": "g"}),
        ([{"image": "a.png", "text": "x", "bad": "b.png"}], {"negative_images": "bad"}),
        (
            [{"image": "a.png", "text": t, "k": "k", "y": y} for t, y in (("a dog", 1), ("cat", 0))],
            {"label": "y", "key": "k"},
        ),
    ],
    ids=["one negative", "groups", "one image", "labels"],
)
def test_one_negative_has_one_figure(rows: list[Any], options: dict[str, Any], tmp_path: Path) -> None:
    found = report(tmp_path, rows, **options)
    assert found.metrics == ["accuracy"]
    if rows is ONE:  # "a dog" and "a cow" are longer than "cat", "it" is not, "cow" is a tie
        assert found["accuracy"].value == 0.5


def test_more_negatives_have_two(tmp_path: Path) -> None:
    rows = [*ONE[:1], {**ONE[0], "text": "dogs", "no": ["cat", "a cow"]}]
    found = report(tmp_path, rows, negative_texts="no")
    assert {name: found[name].value for name in found.metrics} == {"accuracy": 0.75, "acc@1": 0.5}


def test_two_that_match_have_two(tmp_path: Path) -> None:
    """One of two matching texts first is a hit, and half of the comparisons."""
    rows = [{"image": "a.png", "text": ["a dog", "it"], "no": "cat"}]
    found = report(tmp_path, rows, negative_texts="no")
    assert {name: found[name].value for name in found.metrics} == {"accuracy": 0.5, "acc@1": 1.0}


def test_what_is_asked_for_is_given(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    items = load_dataset("table", as_jsonl(tmp_path / "t.jsonl", ONE), negative_texts="no")
    assert evaluate(ByLength(), items, ["accuracy", "acc@1"]).metrics == ["accuracy", "acc@1"]
