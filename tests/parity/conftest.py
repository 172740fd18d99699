"""Tiny checkpoints, written once a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.fixtures.make_checkpoint import write_checkpoint
from tests.parity.case import Case


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """The tiny models are too small to share out. The core uses the same libtorch: this holds for it too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a tiny checkpoint once a session: `checkpoint("sd15", dtype="float16")`."""
    written: dict[str, Path] = {}

    def write(kind: str = "sd15", **layout: Any) -> Path:
        key = f"{kind}-" + "-".join(f"{name}_{value}" for name, value in sorted(layout.items()))
        if key not in written:
            written[key] = write_checkpoint(tmp_path_factory.mktemp(key, numbered=False), kind, **layout)
        return written[key]

    return write


# Seeds with which every text predicts better than the empty one, so that attention and denoising scores are both
# positive and a weighted sum of them never cancels: a relative tolerance says nothing about what is nearly zero.
SEEDS = {"sd15": 0, "sd21": 1, "sd21v": 1}


@pytest.fixture(scope="session")
def cases(checkpoint: Callable[..., Path]) -> dict[str, Case]:
    return {kind: Case(checkpoint(kind, seed=seed)) for kind, seed in SEEDS.items()}


@pytest.fixture(scope="session", params=list(SEEDS))
def case(request: pytest.FixtureRequest, cases: dict[str, Case]) -> Case:
    """A tiny Stable Diffusion 1.5, 2.1-base and 2.1."""
    return cases[request.param]


@pytest.fixture(scope="session", params=["sd15", "sd21"])
def epsilon_case(request: pytest.FixtureRequest, cases: dict[str, Case]) -> Case:
    """The two that differ in layers and heads; 2.1 differs from 2.1-base in what it predicts alone."""
    return cases[request.param]


@pytest.fixture(scope="session")
def sd15(cases: dict[str, Case]) -> Case:
    return cases["sd15"]


@pytest.fixture(scope="session")
def sd21(cases: dict[str, Case]) -> Case:
    return cases["sd21"]
