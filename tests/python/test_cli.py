"""The command line, in processes of its own where status and streams matter."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from discffusion import __version__
from discffusion.cli import build_app
from discffusion.config import option_table


def run(*arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [sys.executable, "-m", "discffusion", *arguments],
        input=stdin,
        capture_output=True,
        timeout=300,
        check=False,
    )
    return subprocess.CompletedProcess(
        result.args, result.returncode, result.stdout.decode(), result.stderr.decode()
    )


@pytest.fixture
def image(tmp_path: Path, picture: np.ndarray) -> str:
    path = tmp_path / "picture.png"
    PIL.Image.fromarray(picture).save(path)
    return str(path)


@pytest.fixture
def model(tiny: Path) -> list[str]:
    return ["--model", str(tiny), "--steps", "1", "--device", "cpu"]


def test_score(image: str, model: list[str]) -> None:
    result = run("score", image, "a dog", "a cat", *model)
    assert (result.returncode, result.stderr) == (0, "")
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert [text for _, text in rows] == ["a dog", "a cat"]
    assert all(np.isfinite(float(value)) for value, _ in rows)
    piped = run("score", "-", "a dog", "a cat", *model, stdin=Path(image).read_bytes())
    assert piped.stdout == result.stdout


def test_score_as_json(image: str, model: list[str]) -> None:
    result = run(
        "score", image, "a dog", *model, "--json", "--lambda", "2.5", "--layers", "mid.0,up.1.0", "--seed", "7",
        "--heads", "0", "--batch-size", "3", "--config", "release",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    config = found["config"]
    assert (config["lambda_"], config["layers"], config["seed"]) == (2.5, ["mid.0", "up.1.0"], 7)
    assert (config["heads"], config["batch_size"], config["method"]) == ([0], 3, "combined")
    assert found["scores"][0]["text"] == "a dog"
    assert found["version"] == __version__


def test_rank_both_ways(image: str, model: list[str], tmp_path: Path, picture: np.ndarray) -> None:
    other = str(tmp_path / "other.png")
    PIL.Image.fromarray(picture[::-1]).save(other)
    images = run("rank", image, other, "--text", "a dog", *model, "--json")
    assert images.returncode == 0, images.stderr
    ranking = json.loads(images.stdout)["ranking"]
    assert [row["rank"] for row in ranking] == [1, 2]
    assert ranking[0]["score"] >= ranking[1]["score"]
    assert {row["image"] for row in ranking} == {image, other}
    texts = run("rank", image, "-t", "a dog", "-t", "a cat", *model, "--top-k", "1")
    assert len(texts.stdout.splitlines()) == 1
    assert texts.stdout.startswith("1\t")


def test_info(model: list[str]) -> None:
    result = run("info", "--model", model[1], "--device", "cpu")
    assert result.returncode == 0, result.stderr
    for part in (__version__, "torch:", "libtorch:", "cuda:", "unet", model[1]):
        assert part in result.stdout
    found = json.loads(run("info", "--model", model[1], "--json").stdout)
    assert found["model"]["num_parameters"]["total"] > 0
    assert found["problem"] is None


def test_info_says_what_is_wrong(tmp_path: Path) -> None:
    result = run("info", "--model", str(tmp_path))
    assert result.returncode == 1
    assert "torch:" in result.stdout
    assert len(result.stderr.splitlines()) == 1
    assert "model_index.json" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["score"],
        ["score", "IMAGE"],
        ["nonsense"],
        ["score", "IMAGE", "a", "--nonsense"],
        ["score", "IMAGE", "a", "--map", "x"],
        ["score", "IMAGE", "a", "--steps", "many"],
        ["score", "IMAGE", "a", "--steps", "0"],
        ["score", "IMAGE", "a", "--config", "papr"],
        ["score", "IMAGE", "a", "--steps", "1", "--noise-levels", "0.5"],
        ["score", "IMAGE", "a", "--device", "abacus"],
        ["score", "IMAGE", "a", "--dtype", "int3"],
        ["score", "IMAGE", "a", "--layers", "attic"],
        ["explain", "IMAGE", "a", "--device", "cuda:x"],
        ["rank", "IMAGE", "IMAGE", "-t", "a", "-t", "b"],
        ["rank", "IMAGE"],
    ],
    ids=" ".join,
)
def test_usage_errors(arguments: list[str], image: str) -> None:
    known = [image if argument == "IMAGE" else argument for argument in arguments]
    result = CliRunner().invoke(build_app(), known)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert re.fullmatch(r"discffusion: .+\n", result.stderr)
    assert isinstance(result.exception, SystemExit)


def test_usage_errors_in_a_process() -> None:
    result = run("score", "picture.png", "a", "--nonsense")
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(
        r"discffusion: No such option: --nonsense.*; see discffusion score --help\n", result.stderr
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "missing.png", "a"], "there is no file 'missing.png'"),
        (["score", "IMAGE", "a", "--model", "no/such/folder"], "no/such/folder"),
    ],
)
def test_other_errors_are_one_line(arguments: list[str], message: str, image: str, model: list[str]) -> None:
    known = [image if argument == "IMAGE" else argument for argument in arguments]
    options = [] if "--model" in known else model[:2]
    result = run(*known, *options)
    assert result.returncode == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr
    assert "Traceback" in run(*known, *options, "--debug").stderr


@pytest.mark.usefixtures("wide")
def test_help_lists_every_option() -> None:
    for command in ("score", "rank"):
        shown = CliRunner().invoke(build_app(), [command, "--help"]).stdout
        for row in option_table():
            assert "--" + row["name"].rstrip("_").replace("_", "-") in shown
        for option in ("--json", "--model", "--device", "--dtype", "--config", "--debug"):
            assert option in shown


def test_version() -> None:
    assert run("--version").stdout.strip() == __version__
