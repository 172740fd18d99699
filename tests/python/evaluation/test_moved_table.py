"""Rows of a table are gone on with wherever the table lies, and however its path is spelt."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from tests.python.evaluation.fake_scorers import ByPairs

from discffusion import ConfigError, evaluate, load_dataset


def table(folder: Path) -> Path:
    folder.mkdir()
    for number in range(3):
        PIL.Image.fromarray(np.full((4, 4, 3), 40 * number, np.uint8)).save(folder / f"{number}.png")
    lines = [f"{number}.png,a text {number},another {number}" for number in range(3)]
    (folder / "own.csv").write_text("image,text,no\n" + "\n".join(lines) + "\n")
    return folder


def calls(root: Any, output: Path) -> int:
    """How often the scorer is asked."""
    scorer = ByPairs()
    evaluate(scorer, load_dataset("table", root=root, negative_texts="no"), output=output, progress=False)
    return len(scorer.calls)


def test_a_moved_table_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, rows = table(tmp_path / "one"), tmp_path / "rows.jsonl"
    monkeypatch.chdir(folder)
    assert calls("own.csv", rows) > 0
    shutil.copytree(folder, tmp_path / "two")
    for root in (folder / "own.csv", folder, "../one/own.csv", "./own.csv", tmp_path / "two" / "own.csv"):
        assert calls(root, rows) == 0
    assert str(tmp_path) not in rows.read_text()


def test_another_table_of_the_same_name_is_not(tmp_path: Path) -> None:
    folder, rows = table(tmp_path / "one"), tmp_path / "rows.jsonl"
    calls(folder, rows)
    other = Path(shutil.copytree(folder, tmp_path / "two"))
    PIL.Image.fromarray(np.full((4, 4, 3), 7, np.uint8)).save(other / "1.png")
    with pytest.raises(ConfigError, match=r"another item .*image_sha256 0 was"):
        calls(other, rows)
