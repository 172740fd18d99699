"""Which layers are meant: the same words for observations, explanations and scores, and the deprecated name."""

from __future__ import annotations

import numpy as np
import pytest

from discffusion import ConfigError, Scorer
from discffusion._layers import select

NAMES = ["down.0.0", "down.1.0", "down.1.1", "mid.0", "up.0.0", "up.1.0", "up.1.1"]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("all", NAMES),
        ("down", NAMES[:3]),
        ("mid", ["mid.0"]),
        ("up", NAMES[4:]),
        ("last(1)", NAMES[-1:]),
        ("last(3)", NAMES[-3:]),
        ("last_blocks", ["down.1.0", "down.1.1", "mid.0", "up.1.0", "up.1.1"]),
        ("up.0.0", ["up.0.0"]),
        ("up.1", ["up.1.0", "up.1.1"]),
        (["up.1.1", "down.0.0"], ["down.0.0", "up.1.1"]),
        ([], []),
    ],
)
def test_selected(layers: str | list[str], expected: list[str]) -> None:
    assert select(layers, NAMES) == expected


def test_the_last_blocks_of_several_transformers() -> None:
    names = ["down.1.0.0", "down.2.0.0", "down.2.0.1", "mid.0.0", "mid.0.1", "up.0.0.0", "up.1.0.0"]
    assert select("last_blocks", names) == [*names[1:5], names[-1]]


@pytest.mark.parametrize("layers", ["last(0)", "last(8)", "last", "upper", "down.9.9", ["mid.0", "attic.0"]])
def test_refused(layers: str | list[str]) -> None:
    with pytest.raises(ConfigError, match="there are"):
        select(layers, NAMES)


@pytest.mark.parametrize("layers", ["all", "down", "mid", "up", "last(2)", "last_blocks", ["mid.0"]])
def test_the_score_counts_the_same_layers(
    scorer: Scorer, picture: np.ndarray, layers: str | list[str]
) -> None:
    scored = (
        scorer.with_config(steps=1, method="attention", layers=layers)
        .explain(picture, "a red circle")
        .per_layer
    )
    seen = scorer.observe(picture, "a red circle", layers=layers, prediction=False).maps
    shown = scorer.with_config(steps=1).explain(picture, "a red circle", layers=layers).layer_maps
    assert list(scored) == list(seen) == list(shown)


def test_names_of_all_layers(scorer: Scorer, picture: np.ndarray) -> None:
    assert scorer.layers == list(scorer.observe(picture, "a", prediction=False).maps)
    assert scorer.info()["layers"] == scorer.info()["sites"]


def test_sites_is_the_deprecated_name(scorer: Scorer, picture: np.ndarray) -> None:
    with pytest.warns(DeprecationWarning, match="layers="):
        assert list(scorer.observe(picture, "a", sites="mid", prediction=False).maps) == ["mid.0"]
    with pytest.warns(DeprecationWarning, match="layers="):
        assert list(scorer.with_config(steps=1).explain(picture, "a", sites="mid").layer_maps) == ["mid.0"]
