"""The mean score of matching pairs, for items that have nothing to compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from tests.python.evaluation.scored import record

from discffusion import ConfigError, MatchItem, compare, evaluate
from discffusion.evaluation import reopen
from discffusion.evaluation.metrics import METRICS
from discffusion.evaluation.report import Report


class Looks:
    """Scores a picture by its first number, whatever the text."""

    def __init__(self, more: float = 0.0) -> None:
        self.more = more

    def matrix(self, images: list[Any], texts: list[str]) -> np.ndarray:
        return np.array([[self.more + float(image.flat[0]) / 10] * len(texts) for image in images])

    def describe(self) -> dict[str, Any]:
        return {"model": "looks", "more": self.more}


LEVELS = [20, 15, 40, 3, 22, 18]


def generated() -> list[MatchItem]:
    """Pictures that were made for a prompt each."""
    return [
        MatchItem(f"{k}", [np.full((4, 4, 3), level, np.uint8)], [f"prompt {k}"], [[True]])
        for k, level in enumerate(LEVELS)
    ]


def test_generated_pictures_have_a_mean_score_with_its_interval(tmp_path: Path) -> None:
    report = evaluate(Looks(), generated(), output=tmp_path / "rows.jsonl")
    assert report.metrics == ["mean_score"]
    found, values = report["mean_score"], np.array(LEVELS) / 10
    expected = stats.t.interval(0.95, 5, values.mean(), values.std(ddof=1) / np.sqrt(6))
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(expected)
    assert (found.n, found.groups, found.method, found.unit, found.ties) == (6, 6, "t", "score", 0)
    assert reopen(tmp_path / "rows.jsonl", generated())["mean_score"] == found


def test_it_is_shown_as_a_score_and_not_in_percent() -> None:
    report = evaluate(Looks(), generated())
    assert str(report["mean_score"]) == "1.9667 [0.7062, 3.2272]"
    cells = [cell.strip() for cell in report.table().splitlines()[5].split("|")[1:-1]]
    assert cells == ["mean_score", "all", "1.9667", "0.7062 to 3.2272", "6", "0", "t"]
    assert "value %" not in report.table() and "<td>1.9667</td>" in report._repr_html_()
    both = [record("a", [[2.0, 1.0]], [[1, 0]]), record("b", [[3.0, 4.0]], [[1, 0]])]
    lines = Report.from_records(both, ["accuracy", "mean_score"], settings={}).table().splitlines()
    assert [line.split("|")[3].strip() for line in lines[2:] if line] == [
        "value",
        "-" * len(lines[3].split("|")[3].strip()),
        "50.00 %",
        "2.5000",
    ]


def test_two_models_are_compared_by_the_scores_of_their_pictures() -> None:
    better, worse = evaluate(Looks(0.3), generated()), evaluate(Looks(), generated())
    found = compare(better, worse, "mean_score")
    assert found.difference == pytest.approx(0.3)
    assert found.unit == "score" and str(found).startswith(
        "mean_score: +0.3000 [+0.3000, +0.3000], p = 0.0312"
    )


def test_an_item_counts_once_and_only_by_its_matching_pairs() -> None:
    records = [
        record("a", [[1.0, 3.0, 100.0]], [[1, 1, 0]], images=("a",)),  # 2
        record("b", [[5.0]], [[1]], images=("b",)),
        record("c", [[7.0, 9.0]], [[0, 0]], images=("c",)),
    ]
    found = METRICS["mean_score"].measure(records)
    assert found.values[""].value == 3.5 and found.values[""].n == 2
    assert found.notes == ("1 items hold no matching pair and are left out of mean_score",)
    with pytest.raises(ConfigError, match="no item holds a matching pair"):
        METRICS["mean_score"](records[2:])


def test_one_image_has_no_interval() -> None:
    """Several prompts of one picture are one image group: how others would score is not known."""
    records = [record(f"{k}", [[float(k)]], [[1]], images=("same.png",)) for k in range(3)]
    found = METRICS["mean_score"](records)[""]
    assert (found.low, found.value, found.high, found.method, found.groups) == (1, 1, 1, "none", 1)
