"""``--calibration`` of the commands that score: probabilities, and what does not go with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow.parquet
import pytest
from tests.python.calibration.files import curve_alone, saved
from tests.python.shards.made_up import tars
from typer.testing import CliRunner

from discffusion import Scorer, evaluate, load_dataset
from discffusion.calibration import Calibration
from discffusion.cli import build_app
from discffusion.evaluation import reopen
from discffusion.shards.rows import COLUMNS

TEXTS = ["a red circle", "a blue square"]


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(build_app(), list(arguments))


@pytest.fixture
def image(tmp_path: Path, picture: np.ndarray) -> str:
    path = tmp_path / "picture.png"
    PIL.Image.fromarray(picture).save(path)
    return str(path)


@pytest.fixture
def plain(scorer: Scorer) -> Scorer:
    """With the default configuration, as commands have it."""
    return scorer.with_calibration(None).with_config("default")


@pytest.fixture(params=[True, False], ids=["weighted", "curve"])
def file(request: pytest.FixtureRequest, tmp_path: Path, plain: Scorer) -> Path:
    return saved(tmp_path, plain, request.param)


@pytest.fixture
def model(tiny: Path) -> list[str]:
    return ["--model", str(tiny), "--device", "cpu"]


def test_score(file: Path, image: str, model: list[str], plain: Scorer) -> None:
    calibrated = plain.with_calibration(file)
    scores, matching = calibrated.matrix(image, TEXTS)[0], calibrated.probability_matrix(image, TEXTS)[0]
    result = invoke("score", image, *TEXTS, *model, "--calibration", str(file))
    assert (result.exit_code, result.stderr) == (0, "")
    expected = [f"{s:.6g}\t{p:.4f}\t{text}" for s, p, text in zip(scores, matching, TEXTS, strict=True)]
    assert result.stdout.splitlines() == expected
    told = json.loads(invoke("score", image, *TEXTS, *model, "--calibration", str(file), "--json").stdout)
    assert told["calibration"] == Calibration.load(file).digest
    assert told["config"] == json.loads(json.dumps(calibrated.config.to_dict()))
    assert [row["score"] for row in told["scores"]] == pytest.approx(scores, abs=1e-6)
    assert [row["probability"] for row in told["scores"]] == pytest.approx(matching, abs=1e-6)


def test_without_a_calibration_nothing_is_said_of_probabilities(image: str, model: list[str]) -> None:
    told = json.loads(invoke("score", image, *TEXTS, *model, "--json").stdout)
    assert "calibration" not in told
    assert list(told["scores"][0]) == ["image", "text", "score"]
    assert invoke("score", image, *TEXTS, *model).stdout.count("\t") == 2


def test_rank(file: Path, image: str, model: list[str], plain: Scorer) -> None:
    calibrated = plain.with_calibration(file)
    expected = [(TEXTS[index], score) for index, score in calibrated.rank(image, TEXTS)]
    arguments = ["rank", image, "-t", TEXTS[0], "-t", TEXTS[1], *model, "--calibration", str(file)]
    rows = json.loads(invoke(*arguments, "--json").stdout)["ranking"]
    assert [(row["text"], row["score"]) for row in rows] == [
        (text, pytest.approx(s, abs=1e-6)) for text, s in expected
    ]
    for row in rows:
        p = calibrated.calibration.probability(row["score"])  # type: ignore[union-attr]
        assert row["probability"] == pytest.approx(p)
    lines = [line.split("\t") for line in invoke(*arguments).stdout.splitlines()]
    assert [line[0] for line in lines] == ["1", "2"]
    assert [line[2:] for line in lines] == [[f"{row['probability']:.4f}", row["text"]] for row in rows]


def test_explain(file: Path, image: str, model: list[str], plain: Scorer) -> None:
    expected = plain.with_calibration(file).probability(image, TEXTS[0])
    arguments = ["explain", image, TEXTS[0], *model, "--calibration", str(file)]
    told = json.loads(invoke(*arguments, "--json").stdout)
    assert told["probability"] == pytest.approx(expected, abs=1e-6)
    assert invoke(*arguments).stdout.splitlines()[-2:] == [
        f"{told['score']:.6g}\tscore", f"{told['probability']:.4f}\tprobability"
    ]  # fmt: skip


def test_score_shards(file: Path, model: list[str], plain: Scorer, tmp_path: Path) -> None:
    tars(tmp_path / "in", 1, 3)
    arguments = ["score-shards", str(tmp_path / "in"), str(tmp_path / "out"), *model]
    result = invoke(*arguments, "--calibration", str(file))
    assert result.exit_code == 0, result.output
    (rows,) = (tmp_path / "out").glob("*.parquet")
    table = pyarrow.parquet.read_table(rows).to_pydict()
    place = list(COLUMNS).index("score") + 1
    assert list(table) == [*list(COLUMNS)[:place], "probability", *list(COLUMNS)[place:]]
    calibration = Calibration.load(file)
    np.testing.assert_allclose(table["probability"], calibration.probability(table["score"]), atol=1e-12)
    # rows without probabilities are others
    other = invoke(*arguments)
    assert other.exit_code == 1
    assert "was scored with other settings: " in other.stderr
    assert "calibration was " in other.stderr


def test_eval(file: Path, model: list[str], plain: Scorer, tmp_path: Path) -> None:
    rows, items = tmp_path / "rows.jsonl", load_dataset("shapes", split="eval", subset="predicate", n=4)
    given = ["shapes", "--split", "eval", "--subset", "predicate", "--data", "n=4"]
    arguments = ["eval", *given, *model, "--calibration", str(file), "-o", str(rows), "--json"]
    told = json.loads(invoke(*arguments).stdout)
    report = evaluate(plain.with_calibration(file), items)
    found = {value["metric"]: value["value"] for value in told["values"] if value["group"] is None}
    for name in ("probability/ece", "probability/brier"):
        assert found[name] == pytest.approx(report[name].value, abs=1e-6)
    assert told["settings"]["probability"]["calibration"] == Calibration.load(file).digest
    assert reopen(rows, items)["probability/brier"].value == found["probability/brier"]
    compared = invoke(*arguments[:-1], "--compare", str(rows))
    assert (compared.exit_code, compared.stderr) == (0, "")
    assert "accuracy: +0.00" in compared.stdout


@pytest.mark.parametrize(
    ("more", "option"),
    [
        (["--steps", "2"], "--steps"),
        (["--lambda", "2.5"], "--lambda"),
        (["--config", "paper"], "--config"),
        (["--seed", "3", "--prior", "null"], "--prior"),
    ],
)
@pytest.mark.parametrize("command", ["score", "rank", "explain", "score-shards", "eval"])
def test_options_of_the_score_do_not_go_with_it(
    command: str, more: list[str], option: str, image: str, model: list[str], tmp_path: Path
) -> None:
    given = {"rank": [image, "-t", "a"], "score-shards": [str(tmp_path), str(tmp_path)], "eval": ["shapes"]}
    result = invoke(command, *given.get(command, [image, "a"]), *model, "--calibration", "none", *more)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{option} does not go with --calibration" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_options_that_are_the_scorers_own_go_with_it(
    file: Path, image: str, model: list[str], plain: Scorer
) -> None:
    more = ["--seed", "3", "--batch-size", "2", "--truncate", "silent"]
    told = json.loads(invoke("score", image, "a", *model, "--calibration", str(file), *more, "--json").stdout)
    assert [told["config"][name] for name in ("seed", "batch_size", "truncate")] == [3, 2, "silent"]
    expected = plain.with_config(seed=3).with_calibration(file).score(image, "a")
    assert told["scores"][0]["score"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("command", ["score", "demo"])
def test_a_file_that_is_no_calibration(command: str, image: str, model: list[str], tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no calibration")
    given = [image, "a"] if command == "score" else []
    for name, message in (("missing", "cannot be read"), ("text", "is no calibration")):
        result = invoke(command, *given, *model, "--calibration", str(tmp_path / name))
        assert (result.exit_code, result.stdout) == (1, "")
        assert message in result.stderr and len(result.stderr.splitlines()) == 1


def test_the_calibration_of_another_model(file: Path, image: str) -> None:
    result = invoke("score", image, "a", "--device", "cpu", "--calibration", str(file))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "belongs to another scorer: parts " in result.stderr
    assert "calibrate this one by `discffusion calibrate`" in result.stderr


def test_a_baseline_takes_none() -> None:
    result = invoke("eval", "shapes", "--baseline", "clip", "--calibration", "x")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--calibration needs a diffusion model" in result.stderr


def test_the_metric_needs_one(model: list[str]) -> None:
    given = ["eval", "shapes", "--limit", "1", "--steps", "2", *model, "--metrics", "accuracy,probability"]
    result = invoke(*given)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "fit one by `discffusion calibrate` and give it by --calibration" in result.stderr
    staged = invoke(*given, "--stages", "1,2")
    assert staged.exit_code == 2 and "with stages there is no probability" in staged.stderr


def test_a_curve_alone_says_the_probability_of_the_same_score(plain: Scorer, image: str) -> None:
    calibrated = plain.with_calibration(curve_alone(plain, 3.0, -0.25))
    score = plain.score(image, TEXTS[0])
    assert calibrated.score(image, TEXTS[0]) == score
    assert calibrated.probability(image, TEXTS[0]) == pytest.approx(1 / (1 + np.exp(0.25 - 3 * score)))
