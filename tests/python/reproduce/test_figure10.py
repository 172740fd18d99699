"""Examples won and lost, with their maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from tests.python.reproduce.made_up import TINY

from discffusion.evaluation.record import Record
from discffusion.reproduce import reproduce
from discffusion.reproduce.experiments.figure10 import is_won
from discffusion.reproduce.result import FAILS, HOLDS, NOT_MEASURED, UNDECIDED


@pytest.mark.parametrize(
    ("scores", "won"),
    [
        ([[2, 1], [0, 3]], True),
        ([[2, 2], [0, 3]], False),  # a tie is not won
        ([[2, 1], [4, 5]], False),  # the second image takes the first text
        ([[2, 3], [0, 4]], False),  # the first image takes the second text
    ],
)
def test_what_is_won(scores: list[list[float]], won: bool) -> None:
    assert is_won(Record("k", np.array(scores, float), np.eye(2, dtype=bool))) is won


def test_end_to_end(tmp_path: Path) -> None:
    (result,) = reproduce(["figure10"], scale=TINY, output=tmp_path)
    (verdict,) = result.verdicts
    assert verdict.answer in (HOLDS, FAILS, UNDECIDED, NOT_MEASURED)
    assert "of 3 items" in result.notes[0]
    (path,) = result.plots
    with PIL.Image.open(path) as opened:
        assert opened.width > 1000
        assert len(np.unique(np.asarray(opened.convert("L")))) > 20
    assert "figure10.png" in (tmp_path / "report.md").read_text(encoding="utf-8")
