"""A scorer that does not describe itself: another of its class looks the same, so its rows are not taken for those of
another run."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.python.evaluation.fake_scorers import items
from tests.python.shards.made_up import ByDigest, tars

from discffusion import ConfigError, evaluate, score_shards


class Sign:
    """Right everywhere, or wrong everywhere."""

    def __init__(self, sign: int) -> None:
        self.sign = sign

    def matrix(self, images: Any, texts: Any) -> np.ndarray:
        return self.sign * np.eye(len(images), len(texts))


class Told(Sign):
    def describe(self) -> dict[str, Any]:
        return {"sign": self.sign}


class Silent(Sign):
    """Says where it computes, and nothing else."""

    def describe(self) -> dict[str, Any]:
        return {"device": "cpu", "versions": {"torch": "2.11"}}


def accuracy(scorer: Any, output: Path | None, **options: Any) -> float:
    return float(evaluate(scorer, items(4), "accuracy", output=output, **options)["accuracy"].value)


@pytest.mark.parametrize("kind", [Sign, Silent])
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_its_rows_are_refused(tmp_path: Path, kind: type[Sign], ending: str) -> None:
    rows = tmp_path / f"rows.{ending}"
    assert accuracy(kind(1), rows) == 1
    kept = rows.read_bytes()
    with pytest.raises(ConfigError, match=r"may be of another .*describe\(\).*resume=False"):
        accuracy(kind(-1), rows)
    assert rows.read_bytes() == kept
    assert accuracy(kind(-1), rows, resume=False) == 0
    assert accuracy(kind(-1), None) == 0


def test_one_that_says_what_it_is_goes_on(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    assert accuracy(Told(1), rows, limit=2) == accuracy(Told(1), rows) == 1
    with pytest.raises(ConfigError, match="scorer sign was 1 and is -1"):
        accuracy(Told(-1), rows)


def test_what_a_group_of_processes_left_is_refused_too(tmp_path: Path) -> None:
    rows, part = tmp_path / "rows.jsonl", tmp_path / "rows.part-00001.jsonl"
    accuracy(Sign(1), rows)
    rows.replace(part)
    with pytest.raises(ConfigError, match="does not describe itself"):
        accuracy(Sign(-1), rows)


class SilentShards(ByDigest):
    def describe(self) -> dict[str, Any]:
        return {}


def test_finished_shards_are_told_of(tmp_path: Path) -> None:
    shards = tars(tmp_path, 2, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score_shards(shards, tmp_path / "out", SilentShards(), progress=False)
    with pytest.warns(UserWarning, match="finished shards.*does not describe itself"):
        score_shards(shards, tmp_path / "out", SilentShards(), progress=False)
