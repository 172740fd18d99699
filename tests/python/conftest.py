"""A tiny Stable Diffusion with random weights, written once a session, and a scorer of it."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.python.refusing import build

from discffusion import Scorer


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.fixtures.make_checkpoint import write_checkpoint

    return write_checkpoint(tmp_path_factory.mktemp("tiny") / "model", "sd15", "tiny")


@pytest.fixture(scope="session")
def scorer(tiny: Path) -> Scorer:
    return Scorer(tiny, device="cpu", steps=2)


@pytest.fixture(scope="session")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of a process that can be refused memory."""
    if not sys.platform.startswith("linux"):
        pytest.skip("is refused memory by Linux's means")
    return build(tmp_path_factory.mktemp("refusing"))


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    """uint8 [24, 40, 3] in which every row and column differs."""
    rows, columns = np.mgrid[0:24, 0:40]
    return np.stack([rows * 10, columns * 6, (rows + columns) * 4], axis=2).astype(np.uint8)


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Help texts have 200 columns, whatever terminal an earlier test left behind."""
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 200)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every use of a socket is noted and refused."""
    calls: list[Any] = []

    def refuse(*args: Any, **_: Any) -> Any:
        calls.append(args)
        raise OSError("network access is disabled")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    return calls
