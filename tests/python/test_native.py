"""Finding torch, and saying what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.python.run_python import run_python

from discffusion import _native
from discffusion.errors import DiscffusionError, InstallationError

LOAD = """
from discffusion import DiscffusionError, Scorer  # a name that needs no core yet
try:
    from discffusion import ScoreConfig
    ScoreConfig()
except ImportError as error:
    assert isinstance(error, DiscffusionError)
    print(type(error).__name__, error)
"""


def fake_torch(folder: Path, version: str | None) -> Path:
    (folder / "torch").mkdir(parents=True)
    (folder / "torch" / "__init__.py").write_text("raise SystemExit('torch must not be imported')")
    if version is not None:
        (folder / "torch" / "version.py").write_text(
            f"from typing import Optional\n__version__ = {version!r}\n"
        )
    return folder


@pytest.mark.parametrize("version", ["2.9.0+cpu", "2.12.1", "2.110.0", "1.13.1"])
def test_wrong_torch_is_one_clear_sentence(tmp_path: Path, version: str) -> None:
    result = run_python(LOAD, fake_torch(tmp_path, version))
    assert result.returncode == 0, result.stderr
    kind, _, message = result.stdout.strip().partition(" ")
    assert kind == "InstallationError"
    assert "\n" not in message
    assert version in message
    assert "torch 2.11" in message
    assert 'pip install "torch==2.11.*"' in message


def test_missing_torch_is_named() -> None:
    hide = "import importlib.util, sys; real = importlib.util.find_spec\n"
    hide += "importlib.util.find_spec = lambda name, *more: None if name == 'torch' else real(name, *more)\n"
    result = run_python(hide + LOAD)
    assert "InstallationError torch is not installed" in result.stdout
    assert "pip install" in result.stdout


@pytest.mark.parametrize("version", [None, ""])
def test_broken_torch_is_named(tmp_path: Path, version: str | None) -> None:
    result = run_python(LOAD, fake_torch(tmp_path, version))
    assert "InstallationError" in result.stdout
    assert str(tmp_path) in result.stdout


def test_right_version_without_libraries(tmp_path: Path) -> None:
    result = run_python(LOAD, fake_torch(tmp_path, "2.11.0"))
    assert "libc10" in result.stdout


def test_installation_error_is_an_import_error() -> None:
    assert issubclass(InstallationError, ImportError)
    assert issubclass(InstallationError, DiscffusionError)


def test_cpu_users_do_not_load_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(_native, "_open", lambda name, *, required: opened.append(name))
    monkeypatch.setattr(_native, "_driver_present", lambda: False)
    _native.load_cuda("cpu")
    _native.load_cuda("auto")
    assert opened == []
    _native.load_cuda("cuda:1")
    assert opened == ["torch_cuda"]
    monkeypatch.setattr(_native, "_driver_present", lambda: True)
    _native.load_cuda("auto")
    assert opened == ["torch_cuda"] * 2


@pytest.mark.parametrize(
    "shown", ["/dev/nvidia0", "/dev/nvidiactl", "/proc/driver/nvidia", "/dev/dxg", "/dev/nvmap"]
)
def test_a_driver_is_seen_by_what_it_shows(monkeypatch: pytest.MonkeyPatch, shown: str) -> None:
    """WSL2 shows ``/dev/dxg`` alone, Tegra ``/dev/nvmap``."""
    opened: list[str] = []
    monkeypatch.setattr(_native, "_open", lambda name, *, required: opened.append(name))
    monkeypatch.setattr(Path, "exists", lambda path: str(path) == shown)
    _native.load_cuda("auto")
    assert opened == ["torch_cuda"]
    monkeypatch.setattr(Path, "exists", lambda path: False)
    _native.load_cuda("auto")
    assert opened == ["torch_cuda"]
