"""The stub of the core says what the core has, checked by mypy's own stubtest."""

from __future__ import annotations

from pathlib import Path

import pytest

from discffusion import _native
from tools import core_stub

ROOT = Path(__file__).parents[2]


def test_stub_matches_module(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    stubtest = pytest.importorskip("mypy.stubtest")
    _native.core()  # so that the module can be imported wherever torch is
    monkeypatch.chdir(ROOT)
    arguments = ["discffusion._core", "--mypy-config-file", str(ROOT / "pyproject.toml"), "--concise"]
    status = stubtest.test_stubs(stubtest.parse_options(arguments))
    assert status == 0, capsys.readouterr().out


def test_options_in_the_stub_are_the_cores() -> None:
    """Their names, types and documentation, as ``tools/core_stub.py`` writes them."""
    assert core_stub.STUB.read_text(encoding="utf-8") == core_stub.written()
