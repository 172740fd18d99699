"""Observations that contradict themselves are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.python.calibration.worlds import world

from discffusion.calibration import Numbers
from discffusion.errors import ConfigError

OBSERVED = world(0, 3, {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention": {"cosine": np.zeros((12, 4, 3, 2), np.float32)}}, "attention of cosine has the shape"),
        (
            {"attention": {"cosine": np.full((12, 4, 3, 3), np.nan, np.float32)}},
            "attention of cosine holds NaN",
        ),
        ({"error": np.zeros((12, 3))}, r"error has the shape \[12, 3\]; expected \[12, 4\]"),
        ({"attention": {}, "error": None}, "nothing was observed"),
        ({"prior": Numbers(attention={})}, "same kinds of map"),
        ({"prior": Numbers(attention=OBSERVED.attention)}, "of the pairs or of the prior alone"),
        ({"heads": (2, 3)}, "heads are of 2 layers"),
        ({"groups": OBSERVED.groups + 1}, "its image group's own pairs"),
        ({"comparisons": OBSERVED.comparisons[:, ::-1]}, "not of a matching pair"),
        ({"comparisons": OBSERVED.comparisons + 12}, "not among the 12"),
        (
            {"comparisons": OBSERVED.comparisons[:0], "groups": OBSERVED.groups[:0], "of_image": None},
            "no comparisons",
        ),
        ({"of_image": np.zeros(3, bool)}, r"of_image has the shape \[3\]; expected \[12\]"),
        ({"pair_groups": OBSERVED.pair_groups[:3]}, "pair_groups has the shape"),
    ],
)
def test_contradictions_are_refused(change: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(OBSERVED, **change)
