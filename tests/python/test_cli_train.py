"""``discffusion train``, in processes of its own where status and streams matter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import discffusion
from discffusion import Deltas, Scorer
from discffusion.cli import build_app
from discffusion.config import option_table as score_options
from discffusion.training.options import option_table as training_options

# The pocket model; one timestep, two pairs of pictures and texts to an item.
QUICK = [
    "shapes", "--limit", "5", "--noise-levels", "0.5", "--margin", "0.5", "--rank", "2", "--train-layers", "up",
    "--epochs", "2", "--device", "cpu",
]  # fmt: skip


def start(*arguments: str) -> subprocess.Popen[str]:
    package = Path(discffusion.__file__).parents[1]
    return subprocess.Popen(
        [sys.executable, "-m", "discffusion", "train", *arguments],
        env={**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    child = start(*arguments)
    printed, errors = child.communicate(timeout=300)
    return subprocess.CompletedProcess(arguments, child.returncode, printed, errors)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    output = tmp_path_factory.mktemp("cli") / "few-shot"
    result = run(
        *QUICK, "--output", str(output), "--validation-split", "eval", "--validation-limit", "3", "--seed", "4",
        "--batch-size", "2", "--score-batch-size", "16", "--json",
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    return output, json.loads(result.stdout)


def test_what_is_written(done: tuple[Path, dict[str, Any]]) -> None:
    output, told = done
    assert {path.name for path in output.iterdir()} == {
        "README.md", "checkpoints", "deltas.safetensors", "history.csv",
    }  # fmt: skip
    with Scorer() as scorer:
        deltas = Deltas.load(output / "deltas.safetensors", scorer)
    assert deltas.rank == 2
    assert deltas.metadata["training"] == told["training"]
    assert told["training_options"]["seed"] == told["config"]["seed"] == 4
    assert told["training_options"]["layers"] == "up"
    assert told["config"]["layers"] == "last(1)"
    assert told["config"]["batch_size"] == 16
    assert told["training"]["batch_size"] == 2
    assert told["data"]["train"]["items"] == 5
    assert told["data"]["train"]["source"] == "Shapes(split='train', subset=None, seed=0, n=5)"
    assert told["data"]["validation"]["items"] == 3
    assert [row["step"] for row in told["validations"]] == [0, 3, 6]
    assert told["accuracy"] == max(row["accuracy"] for row in told["validations"])
    card = (output / "README.md").read_text()
    assert "6 steps in 2 epochs" in card
    for row in told["validations"]:
        assert f"| {row['step']} | {row['epoch']} | {100 * row['accuracy']:.2f} |" in card
    assert len((output / "history.csv").read_text().splitlines()) == 1 + 6 + 3


def test_the_code_of_the_card_runs(
    done: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    output, _ = done
    monkeypatch.chdir(output)
    code = (output / "README.md").read_text().split("```python\n")[1].split("```")[0]
    picture = Path(__file__).parents[2] / "examples" / "scene.png"
    found: dict[str, Any] = {}
    exec(code.replace("photo.jpg", str(picture)).replace("scorer.score(", "result = scorer.score("), found)
    assert isinstance(found["result"], float)
    assert found["scorer"].deltas.rank == 2


def test_a_killed_command_goes_on(done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    output = tmp_path / "few-shot"
    command = [
        *QUICK, "--output", str(output), "--validation-split", "eval", "--validation-limit", "3", "--seed", "4",
        "--batch-size", "2", "--score-batch-size", "16", "--json", "--checkpoint-every", "1",
    ]  # fmt: skip
    child = start(*command)
    for _ in range(3000):
        if (output / "checkpoints" / "step-00000002.safetensors").exists() or child.poll() is not None:
            break
        time.sleep(0.01)
    child.kill()
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert not (output / "deltas.safetensors").exists()
    outcomes = []
    for _ in range(2):  # the second time there is nothing left to do
        result = run(*command)
        assert (result.returncode, result.stderr) == (0, "")
        outcomes.append({**json.loads(result.stdout), "deltas": None})
    expected = {**done[1], "deltas": None}
    assert outcomes == [expected, expected]
    with Scorer() as scorer:
        digests = {Deltas.load(folder, scorer).digest() for folder in (output, done[0])}
    assert len(digests) == 1
    assert (output / "README.md").read_text() == (done[0] / "README.md").read_text()


def test_starting_from_deltas(done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    output = tmp_path / "next"
    arguments = [
        *QUICK[:-4], "--epochs", "1", "--init", str(done[0]), "--output", str(output), "--data", "seed=9",
        "--subset", "attribute", "--in-batch", "--batch-size", "2",
    ]  # fmt: skip
    result = run(*arguments)
    assert (result.returncode, result.stderr) == (0, "")
    rows = dict(line.split("\t") for line in result.stdout.splitlines())
    assert list(rows) == ["deltas", "steps", "loss"]
    assert rows["steps"] == "2"  # the last of five items joins those before
    with Scorer() as scorer:
        deltas = Deltas.load(output, scorer)
    assert (
        deltas.metadata["data"]["train"]["source"] == "Shapes(split='train', subset='attribute', seed=9, n=5)"
    )
    assert deltas.metadata["before"]["data"] == done[1]["data"]
    changed = run(*arguments, "--learning-rate", "0.5")
    assert changed.returncode == 1
    assert len(changed.stderr.splitlines()) == 1
    assert "--learning-rate" in changed.stderr
    assert "--no-resume" in changed.stderr
    again = run(*arguments, "--learning-rate", "0.5", "--no-resume")
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["shapes"],
        ["shapes", "--epochs", "0"],
        ["shapes", "--loss", "x"],
        ["shapes", "--margin", "-1"],
        ["shapes", "--rank", "0"],
        ["shapes", "--train-layers", "attic"],
        ["shapes", "--layers", "attic"],
        ["shapes", "--in-batch", "yes"],
        ["shapes", "--patience", "2"],
        ["shapes", "--data", "n"],
        ["shapes", "--steps", "1", "--noise-levels", "0.5"],
        ["nonsense"],
        ["shapes", "--split", "x"],
        ["shapes", "--data", "colour=red"],
        ["shapes", "--validation-limit", "2"],
        ["sugarcrepe"],
    ],
    ids=" ".join,
)
def test_usage_errors(arguments: list[str], tmp_path: Path) -> None:
    output = ["--output", str(tmp_path / "out")] if len(arguments) > 1 else []
    result = CliRunner().invoke(build_app(), ["train", *arguments, *output])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["shapes", "--init", "missing.safetensors"], "there is no file 'missing.safetensors'"),
        (["shapes", "--model", "no/such/folder"], "no/such/folder"),
    ],
    ids=str,
)
def test_other_errors_are_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = run(*arguments, "--output", str(tmp_path / "out"))
    assert (result.returncode, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr


@pytest.mark.usefixtures("wide")
def test_help_lists_every_option() -> None:
    shown = CliRunner().invoke(build_app(), ["train", "--help"]).stdout
    taken = {"batch_size"}
    for prefix, rows in (("score", score_options()), ("train", training_options())):
        for row in rows:
            name = f"{prefix}_{row['name']}" if row["name"] in taken else row["name"]
            assert "--" + name.rstrip("_").replace("_", "-") + " " in shown
            taken.add(name)
    for option in (
        "--no-in-batch", "--no-resume", "--output", "--root", "--split", "--subset", "--limit", "--data", "--init",
        "--validation-split", "--validation-limit", "--epochs", "--batch-size", "--max-steps", "--patience",
        "--checkpoint-every", "--validate-every", "--tensorboard", "--trackio", "--json", "--model", "--config",
    ):  # fmt: skip
        assert option in shown
