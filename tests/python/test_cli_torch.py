"""Where torch is what is wrong, torch is what is said, whatever was typed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import discffusion
from discffusion import _native


@pytest.fixture(scope="module", params=["2.13.0+cpu", None], ids=["another", "incomplete"])
def said(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a torch that comes before the one installed, and what is to be said of it."""
    front = tmp_path_factory.mktemp("front")
    (front / "torch").mkdir()
    (front / "torch" / "__init__.py").touch()
    if request.param is None:
        missing = f"[Errno 2] No such file or directory: '{front / 'torch' / 'version.py'}'"
        problem = f"the torch in {front / 'torch'} is incomplete ({missing}); reinstall it"
    else:
        (front / "torch" / "version.py").write_text(f"__version__ = '{request.param}'\n")
        problem = f"discffusion needs torch {_native.TORCH} but torch {request.param} is installed in {front / 'torch'}"
    return front, f"discffusion: {problem}: {_native.PIP_LINE}\n"


def run(front: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    package = Path(discffusion.__file__).parents[1]
    return subprocess.run(
        [sys.executable, "-m", "discffusion", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(front), str(package)])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["score", "scene.png", "a dog", "--steps", "3"],
        ["score", "scene.png", "a dog", "--nonsense"],
        ["score"],
        ["rank", "scene.png", "-t", "a", "--map", "x"],
        ["explain", "scene.png", "a", "-o", "folder", "--lambda", "3"],
        ["train", "shapes", "-o", "out", "--learning-rate", "1"],
        ["train", "nonsense"],
        ["eval", "shapes", "--noise-levels", "0.5"],
        ["score-shards", "in", "out", "--layers", "up"],
        ["generate", "a dog", "-o", "x.nothing"],
        ["reproduce", "table3"],
        ["bench", "--against", "none"],
        ["demo", "--steps", "3"],
    ],
    ids=" ".join,
)
def test_nothing_else_is_said(arguments: list[str], said: tuple[Path, str]) -> None:
    result = run(said[0], *arguments)
    assert (result.returncode, result.stdout, result.stderr) == (1, "", said[1])


@pytest.mark.parametrize("command", ["score", "train", "generate"])
def test_help_is_given_and_torch_named(command: str, said: tuple[Path, str]) -> None:
    result = run(said[0], command, "--help")
    assert (result.returncode, result.stderr) == (0, said[1])
    assert "Usage:" in result.stdout and "--model" in result.stdout


def test_info(said: tuple[Path, str]) -> None:
    result = run(said[0], "info")
    assert (result.returncode, result.stderr) == (1, said[1])
    assert result.stdout.startswith(f"discffusion:  {discffusion.__version__}\n")


def test_what_needs_no_torch(said: tuple[Path, str]) -> None:
    for arguments in (["--version"], ["--help"]):
        result = run(said[0], *arguments)
        assert (result.returncode, result.stderr) == (0, "")
