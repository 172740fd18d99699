"""What commands print: results that can be repeated, in JSON that everybody can read, and slips that are noticed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from discffusion import Scorer, Trainer, __version__, _extras, _native, load_dataset
from discffusion.cli import build_app
from discffusion.cli.results import as_json
from discffusion.errors import DiscffusionError, InstallationError

QUICK = ["--config", "attention", "--noise-levels", "0.5", "--device", "cpu"]
TEXT = "a red circle left of a blue square"
SCENE = str(Path(__file__).parents[2] / "examples" / "scene.png")


def invoke(*arguments: str, stdin: bytes | None = None) -> Any:
    return CliRunner().invoke(build_app(), list(arguments), input=stdin)


@pytest.fixture(scope="module")
def pocket() -> Iterator[Scorer]:
    with Scorer(device="cpu", config="attention", noise_levels=[0.5]) as scorer:
        yield scorer


@pytest.fixture(scope="module")
def deltas(pocket: Scorer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    trainer = Trainer(pocket, rank=1, layers="up", margin=0.5, learning_rate=0.1)
    trainer.fit(load_dataset("shapes", split="train", n=2))
    path = tmp_path_factory.mktemp("deltas") / "deltas.safetensors"
    trainer.save(path)
    return path


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("score", [TEXT, "a dog"]),
        ("rank", ["-t", TEXT, "-t", "a dog"]),
        ("explain", [TEXT]),
    ],
)
def test_all_that_is_needed_to_repeat_a_score(command: str, arguments: list[str], pocket: Scorer) -> None:
    result = invoke(command, SCENE, *arguments, "--json", *QUICK)
    assert (result.exit_code, result.stderr) == (0, "")
    told = json.loads(result.stdout)
    described = json.loads(json.dumps(pocket.describe()))
    assert {name: told[name] for name in described} == described
    assert (told["format"], told["version"], told["torch"]) == (1, __version__, _native.torch_version())
    assert told["revision"] == described.get("revision")
    assert told["images"] == {SCENE: hashlib.sha256(Path(SCENE).read_bytes()).hexdigest()}
    piped = invoke(command, "-", *arguments, "--json", *QUICK, stdin=Path(SCENE).read_bytes())
    assert json.loads(piped.stdout)["images"] == {"-": told["images"][SCENE]}


def test_all_that_is_needed_to_repeat_an_evaluation(pocket: Scorer, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    result = invoke("eval", "shapes", "--limit", "3", "--json", "-o", str(rows), *QUICK)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    described = json.loads(json.dumps(pocket.describe()))
    assert {name: told[name] for name in described} == described
    assert (told["format"], told["version"], told["torch"]) == (1, __version__, _native.torch_version())
    of_item: dict[str, dict[int, str]] = {}
    for line in rows.read_text().splitlines():
        row = json.loads(line)
        of_item.setdefault(row["key"], {})[row["image_index"]] = row["image_sha256"]
    lines = [
        f"{key}\t{','.join(images[i] for i in sorted(images))}\n" for key, images in sorted(of_item.items())
    ]
    assert told["images_sha256"] == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_training_tells_the_same(pocket: Scorer, tmp_path: Path) -> None:
    result = invoke(
        "train", "shapes", "--limit", "1", "--margin", "0.5", "--rank", "1", "--train-layers", "up", "-o",
        str(tmp_path), "--json", *QUICK,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["format"], told["torch"]) == (1, _native.torch_version())
    assert (told["fingerprint"], told["config"]) == (
        pocket.describe()["fingerprint"], json.loads(json.dumps(pocket.config.to_dict())),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"scores": [{"score": 1.0}, {"score": math.nan}]}, "nan at scores[1].score"),
        ({"a": {"b": (1, math.inf)}}, "inf at a.b[1]"),
        (-math.inf, "-inf at its top"),
    ],
)
def test_json_has_no_nan(value: Any, place: str) -> None:
    with pytest.raises(DiscffusionError) as caught:
        as_json(value)
    assert place in str(caught.value)


def test_a_score_that_is_not_a_number_is_no_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scorer, "matrix", lambda *_, **__: np.array([[0.5, math.nan]]))
    result = invoke("score", SCENE, "a", "b", "--json", *QUICK)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "nan at scores[1].score" in result.stderr


@pytest.mark.parametrize(
    ("command", "text", "more"),
    [
        ("score", SCENE, [TEXT]),
        ("score", "b.PNG", [TEXT]),
        ("rank", "photo.jpeg", ["-t", TEXT]),
        ("explain", "b.webp", []),
    ],
)
def test_a_file_among_the_texts_is_noticed(command: str, text: str, more: list[str]) -> None:
    given = ["-t", text] if command == "rank" else [text]
    result = invoke(command, SCENE, *given, *more, *QUICK)
    assert result.exit_code == 0
    assert result.stderr.startswith(f"discffusion: warning: {text!r} is scored as a text, not as the file")
    assert len(result.stderr.splitlines()) == 1


def test_other_texts_are_no_files() -> None:
    result = invoke("score", SCENE, TEXT, "", "x" * 5, ".", "the file a.png is here", *QUICK)
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize("command", ["score", "rank", "explain"])
def test_with_deltas(command: str, deltas: Path, pocket: Scorer) -> None:
    texts = ["-t", TEXT] if command == "rank" else [TEXT]
    given = ["--deltas", str(deltas), "--json", *QUICK]
    told = json.loads(invoke(command, SCENE, *texts, *given).stdout)
    with Scorer(device="cpu", config="attention", noise_levels=[0.5]) as trained:
        trained.load_deltas(deltas)
        expected, plain = trained.score(SCENE, TEXT), pocket.score(SCENE, TEXT)
        assert told["deltas"] == trained.deltas.digest()  # type: ignore[union-attr]
    assert abs(expected - plain) > 1e-6
    found = {"score": lambda: told["scores"][0]["score"], "rank": lambda: told["ranking"][0]["score"]}
    assert found.get(command, lambda: told["score"])() == pytest.approx(expected, abs=1e-6)
    missing = invoke(command, SCENE, *texts, "--deltas", "none.safetensors", *QUICK)
    assert (missing.exit_code, missing.stdout) == (1, "")


def test_what_explain_writes_with_is_looked_for_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(module: str, extra: str) -> Any:
        raise InstallationError(f"{module} is needed: {extra}")

    def computed(*_: Any, **__: Any) -> None:
        raise AssertionError("it was computed first")

    with monkeypatch.context() as patch:
        patch.setattr("discffusion.explanation.files.need", lacking)
        patch.setattr(Scorer, "explain", computed)
        result = invoke("explain", SCENE, TEXT, "-o", str(tmp_path / "out"), *QUICK)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == "discffusion: matplotlib.figure is needed: plot\n"
        file = tmp_path / "file"
        file.touch()
    with monkeypatch.context() as patch:
        patch.setattr(Scorer, "explain", computed)
        result = invoke("explain", SCENE, TEXT, "-o", str(file / "out"), *QUICK)
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"the folder {file / 'out'} cannot be made" in result.stderr
    assert _extras.need("json", "none") is json


def test_what_explain_found_is_printed_whatever_becomes_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise DiscffusionError("no space left")

    monkeypatch.setattr("discffusion.explanation.files.write_bytes", full)
    result = invoke("explain", SCENE, TEXT, "-o", str(tmp_path / "out"), *QUICK)
    assert (result.exit_code, result.stderr) == (1, "discffusion: no space left\n")
    assert result.stdout == invoke("explain", SCENE, TEXT, *QUICK).stdout


def test_photographs_are_scored_with_a_model_in_the_examples() -> None:
    guide = Path(__file__).parents[2] / "docs" / "guide" / "command-line.md"
    examples = guide.read_text().splitlines()
    for command in ("score", "rank", "explain"):
        # An example may be broken into lines, where the terminal is narrow.
        examples += " ".join(invoke(command, "--help").stdout.split("╭")[0].split()).split("Example: ")
    examples = [example for example in examples if ".jpg" in example]
    assert len(examples) >= 6
    assert [example for example in examples if "-m MODEL" not in example] == []
