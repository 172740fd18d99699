"""Tiny models of every baseline's library, written once a session, and what they are asked about."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.python.baselines import tiny as models
from tests.python.training_items import threads

from discffusion import MatchItem


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    with threads(1):
        yield


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.write_clip(tmp_path_factory.mktemp("clip") / "model")


@pytest.fixture(scope="session")
def open_clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.write_open_clip(tmp_path_factory.mktemp("open_clip") / "model")


@pytest.fixture(scope="session")
def blip2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.write_blip2(tmp_path_factory.mktemp("blip2") / "model")


@pytest.fixture(scope="session")
def llava_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.write_llava(tmp_path_factory.mktemp("llava") / "model")


@pytest.fixture(scope="session")
def images() -> list[np.ndarray]:
    """Pictures of noise, of three sizes."""
    draw = np.random.default_rng(0)
    return [draw.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((40, 50), (33, 20), (64, 64))]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return ["a red circle", "a blue square left of a dog", "the cat on the grass", "yellow"]


@pytest.fixture(scope="session")
def items() -> list[MatchItem]:
    """Few-shot items of several shapes: two by two, one picture of three texts, three pictures of one text."""
    draw = np.random.default_rng(1)

    def pictures(n: int) -> list[np.ndarray]:
        return [draw.integers(0, 256, (24, 24, 3), dtype=np.uint8) for _ in range(n)]

    return [
        MatchItem("both", pictures(2), ["a red circle", "a blue square"], np.eye(2, dtype=bool)),
        MatchItem("texts", pictures(1), ["a dog", "a cat", "the grass"], np.array([[False, True, False]])),
        MatchItem("images", pictures(3), ["a green circle"], np.array([[True], [False], [False]])),
        MatchItem("more", pictures(2), ["yellow", "a cat on a circle"], np.eye(2, dtype=bool)),
    ]
