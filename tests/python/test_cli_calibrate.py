"""``discffusion calibrate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from discffusion import Scorer, load_dataset
from discffusion.calibration import Calibration
from discffusion.cli import build_app
from discffusion.config import option_table

ITEMS = ["shapes", "--subset", "predicate", "--data", "n=5"]
QUICK = ["--config", "attention", "--noise-levels", "0.7,0.4", "--device", "cpu", "--over", "steps"]


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(build_app(), ["calibrate", *arguments])


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    output = tmp_path_factory.mktemp("calibrate") / "new" / "calibration.safetensors"
    result = invoke(*ITEMS, *QUICK, "-o", str(output), "--seed", "3", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    return output, json.loads(result.stdout)


def test_it_is_the_fit_of_the_split_train(done: tuple[Path, dict[str, Any]]) -> None:
    output, told = done
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    found = Calibration.load(output)
    with Scorer(device="cpu", config="attention", noise_levels=[0.7, 0.4], seed=3) as scorer:
        items = load_dataset("shapes", split="train", subset="predicate", n=5)
        expected = scorer.calibrate(items, over=("steps",), seed=3)
        described = json.loads(json.dumps(scorer.with_calibration(None).describe()))
    assert found.digest == expected.digest
    assert found.report["seed"] == 3
    # what other commands tell of the scorer, here of that before, and what came out
    assert {name: told[name] for name in described} == described
    assert (told["calibration"], told["path"]) == (found.digest, str(output))
    assert (told["slope"], told["offset"], told["report"]) == (found.slope, found.offset, found.report)
    assert told["calibrated"] == json.loads(json.dumps(found.config.to_dict()))


def test_the_table(done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    output = tmp_path / "calibration"
    result = invoke(*ITEMS, *QUICK, "-o", str(output), "--seed", "3")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{Calibration.load(done[0])}\n\n- {output} has the calibration\n"
    assert "accuracy after" in result.stdout
    # another calibration may be written over
    again = invoke(*ITEMS, *QUICK, "-o", str(output), "--seed", "3", "--calibrate-seed", "5", "--json")
    assert again.exit_code == 0, again.stderr
    told = json.loads(again.stdout)
    assert (told["config"]["seed"], told["report"]["seed"]) == (3, 5)
    assert Calibration.load(output).digest == told["calibration"]


def test_what_it_writes_scores(done: tuple[Path, dict[str, Any]]) -> None:
    scene = str(Path(__file__).parents[2] / "examples" / "scene.png")
    given = ["score", scene, "a red circle", "--device", "cpu", "--calibration", str(done[0]), "--json"]
    result = CliRunner().invoke(build_app(), given)
    assert (result.exit_code, result.stderr) == (0, "")
    told = json.loads(result.stdout)
    assert told["calibration"] == done[1]["calibration"]
    assert 0 < told["scores"][0]["probability"] < 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'dataset'"),
        (["shapes", "--over", "step"], "--over is 'step'; expected some of steps, layers, "),
        (["shapes", "--maps", "cosine,values"], "--maps is 'cosine,values'; expected some of "),
        (["shapes", "--calibrate-seed", "-1"], "--calibrate-seed"),
        (["shapes", "--steps", "0"], "--steps is 0"),
        (["shapes", "--split", "x"], "no split 'x'"),
        (["shapes", "--rest"], "--rest goes with --sample"),
        (["shapes", "--data", "colour=red"], "'colour'"),
        (["nonsense"], "unknown dataset 'nonsense'"),
        ([*ITEMS, "--limit", "3", *QUICK], "3 of 3 items have a matching pair"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_usage_errors(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = invoke(*arguments, "-o", str(tmp_path / "calibration"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr and len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_where_it_cannot_be_written_is_found_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("it was computed first")

    monkeypatch.setattr(Scorer, "calibrate", never)
    (tmp_path / "file").write_text("deltas")
    for output, message in (
        ("file/calibration", "cannot be used"),
        ("file", "holds no calibration and is not overwritten"),
        (".", "expected a file in a folder of yours"),
    ):
        result = invoke(*ITEMS, *QUICK, "-o", str(tmp_path / output))
        assert (result.exit_code, result.stdout) == (1, "")
        assert message in result.stderr and len(result.stderr.splitlines()) == 1
    assert (tmp_path / "file").read_text() == "deltas"


@pytest.mark.usefixtures("wide")
def test_help_lists_every_option() -> None:
    shown = invoke("--help").stdout
    own = [
        "root", "split", "subset", "limit", "sample", "sample-seed", "rest", "skip", "data", "allow-missing", "output",
        "over", "maps", "calibrate-seed", "deltas", "json", "model", "device", "config",
    ]  # fmt: skip
    for name in [*own, *(row["name"].rstrip("_").replace("_", "-") for row in option_table())]:
        assert f"--{name} " in shown
    assert "--calibration " not in shown  # what is fitted is the score before
