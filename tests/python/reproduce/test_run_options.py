"""Seeds, data from files, and options that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.python.reproduce.comvg import write_comvg
from tests.python.reproduce.made_up import TINY

from discffusion import Scorer
from discffusion.errors import ConfigError
from discffusion.reproduce import reproduce


def test_two_seeds() -> None:
    (result,) = reproduce(["table8"], scale=TINY, seeds=2)
    for row in result.rows:
        assert row.seeds == (0, 1)
        for name, cell in row.cells.items():
            assert len(cell.seeds) == 2
            assert cell.estimate.value == pytest.approx(np.mean(cell.seeds))
            assert cell.estimate.groups == len(row.records[name][0])
    assert result.plots == []


def test_comvg_from_files(tmp_path: Path) -> None:
    """The paper's data through the same code: other columns, and no place for what was not given."""
    root = tmp_path / "comvg"
    write_comvg(root, rows=60)
    with Scorer(device="cpu") as scorer:
        table, figure = reproduce(
            ["table7", "figure7"], scorer, [("comvg", str(root))], scale=TINY, limit=6,
            baselines={"clip": "pocket"}, output=tmp_path / "out",
        )  # fmt: skip
    assert table.columns == ("Subjects", "Objects", "Predicate", "Average")
    assert all(row.cells["Average"].estimate.n == 6 for row in table.rows)
    assert {row.label for row in table.rows} == set(table.printed.rows)  # type: ignore[union-attr]
    told = " ".join(table.differences)
    assert "shapes" not in told
    assert "comvg: trained on 4 and measured on 56 of 60 rows" in told  # 5 % are three; rows come in pairs
    assert figure.notes == ["Not measured: no data given to train on (--data coco_captions=FOLDER)."]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ["table99"]}, "unknown table or figure 'table99'"),
        ({"names": []}, "no table or figure is named"),
        ({"names": ["table12"], "seeds": 0}, "seeds"),
        ({"names": ["table12"], "limit": 0}, "limit"),
        ({"names": ["table12"], "data": [("comvg", None)]}, "give its folder"),
        ({"names": ["table12"], "baselines": {"klip": "x"}}, "unknown baseline 'klip'"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        reproduce(**options)
