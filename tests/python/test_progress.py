"""Bars: a widget where a notebook shows widgets, otherwise text, and never a complaint."""

from __future__ import annotations

import sys
import types
import warnings
from typing import Any

import pytest

from discffusion import _progress


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel, as IPython tells of it."""
    ipython = types.ModuleType("IPython")
    shell = types.SimpleNamespace(kernel=object(), config={"IPKernelApp": {}})
    ipython.get_ipython = lambda: shell  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "ipykernel.zmqshell", types.ModuleType("ipykernel.zmqshell"))
    for name in [name for name in sys.modules if name.startswith("tqdm.auto") or name == "tqdm.notebook"]:
        monkeypatch.delitem(sys.modules, name)


def report_of_a_request() -> None:
    with _progress.reporting(True) as report:
        assert report is not None
        report(1, 2)
        report(2, 2)


def report_of_items() -> None:
    with _progress.reporting(True, "item", patience=0.0, leave=True) as report:
        assert report is not None
        report(0.5, 2)
        report(2, 2)


def report_of_steps() -> None:
    with _progress.reporting(True, "step", patience=0.0, leave=True) as report:
        assert report is not None
        report(0, 2, computed=False)
        report(1, 2, loss=1.0)
        report(2, 2, loss=0.5)


@pytest.mark.parametrize("show", [report_of_a_request, report_of_items, report_of_steps])
def test_a_notebook_without_widgets(
    show: Any, notebook: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ipywidgets", None)  # importing it fails
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        show()
    assert [str(one.message) for one in told] == []
    shown = capsys.readouterr()
    assert "/2 [" in shown.err
    assert shown.out == ""


def test_a_notebook_with_widgets(notebook: None, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []
    widgets = types.ModuleType("ipywidgets")
    widgets.FloatProgress = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ipywidgets", widgets)
    notebooks = types.ModuleType("tqdm.auto")
    notebooks.tqdm = lambda **options: made.append(options)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tqdm.auto", notebooks)
    _progress.new_bar(total=3, unit="item")
    assert made == [{"total": 3, "unit": "item"}]


def test_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    report_of_items()
    assert "2/2" in capsys.readouterr().err
