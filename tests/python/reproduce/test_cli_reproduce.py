"""``discffusion reproduce``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.python.reproduce.made_up import TINY
from typer.testing import CliRunner

from discffusion.cli import build_app
from discffusion.reproduce.registry import NAMES


def run(*arguments: str) -> Any:
    return CliRunner().invoke(build_app(with_options=False), ["reproduce", *arguments])


def test_the_list() -> None:
    result = run("--list")
    assert result.exit_code == 0
    assert [line.partition("\t")[0] for line in result.stdout.splitlines()] == list(NAMES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --all"),
        (["--all", "table3"], "give --all"),
        (["table33"], "table33"),
        (["table12", "--data", "comvg", "--data", "vqav2", "--root", "x"], "--root"),
        (["table12", "--baseline", "clip"], "NAME=MODEL"),
        (["table12", "--data", "=x"], "NAME=VALUE"),
        (["table12", "--seeds", "0"], "--seeds"),
    ],
)
def test_usage_errors(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_a_gap_and_a_table_and_the_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("discffusion.reproduce.run.QUICK", TINY)
    result = run("table5", "Table8", "--quick", "--output", str(tmp_path), "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "## Table 5" in result.stdout
    assert "81.74" in result.stdout
    assert "table8: Discffusion (attention)" in result.stderr
    assert result.stdout.endswith(f"report\t{tmp_path / 'report.md'}\n")
    assert "## Table 8" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_json_and_nothing_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("discffusion.reproduce.run.QUICK", TINY)
    monkeypatch.chdir(tmp_path)
    result = run("figure3", "--quick", "--json")
    assert result.exit_code == 0, result.output
    (told,) = json.loads(result.stdout)
    assert told["name"] == "figure3"
    layers = ["the last layer", "the last two", "the last four", "all layers"]
    more = ["text prior", "few-shot", "timesteps calibrated"]
    assert {row["label"] for row in told["rows"]} == {
        *layers,
        *(f"{label}, {name}" for label in layers for name in more),
        "layers and heads weighed",
    }
    assert told["rows"][0]["values"]["All"]["by_seed"]
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_that_is_not_there(tmp_path: Path) -> None:
    result = run("table3", "--data", "comvg", "--root", str(tmp_path / "none"))
    assert result.exit_code == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("discffusion:")]
    assert "comvg" in line
