"""Data of one's own from the shell: what a dataset is told, which split is trained on, which part is taken."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import typer
from typer.testing import CliRunner

from discffusion import Deltas, Scorer
from discffusion.cli import build_app
from discffusion.cli.data import pairs

# The pocket model at one timestep.
QUICK = ["--config", "attention", "--noise-levels", "0.5", "--device", "cpu"]
TRAIN = [*QUICK, "--margin", "0.5", "--rank", "2", "--train-layers", "up"]


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(build_app(), list(arguments))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures, tables of them in several layouts, and a shard."""
    root = tmp_path_factory.mktemp("own")
    for n in range(4):
        PIL.Image.fromarray(np.full((64, 64, 3), 60 * n, np.uint8)).save(root / f"{n}.png")
        (root / f"{n}.txt").write_text(f"caption {n}")
    for name in ("own", "held_out"):
        lines = ["image,text,foil,other foil", *(f"{n}.png,a {name} {n},b {n},c {n}" for n in range(4))]
        (root / f"{name}.csv").write_text("\n".join(lines))
    split = root / "split"
    split.mkdir()
    for name in ("train", "eval"):
        lines = [f"image,text,foil\n../{n}.png,a {name} {n},b {n}" for n in range(1)]
        (split / f"{name}.csv").write_text("\n".join(lines))
        PIL.Image.new("RGB", (64, 64)).save(split / f"{name}.png")
        (split / f"{name}.csv").write_text(f"image,text,foil\n{name}.png,a {name},b\n")
    with tarfile.open(root / "00000.tar", "w") as tar:
        for n in range(4):
            for ending in ("png", "txt"):
                tar.add(root / f"{n}.{ending}", f"{n}.{ending}")
    return root


def trained(output: Path) -> dict[str, Any]:
    with Scorer(device="cpu") as scorer:
        found: dict[str, Any] = Deltas.load(output / "deltas.safetensors", scorer).metadata["data"]
    return found


def test_one_table(folder: Path, tmp_path: Path) -> None:
    done = invoke(
        "train", "table", "--root", str(folder / "own.csv"), "--data", "negative_texts=foil", "-o", str(tmp_path),
        *TRAIN,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    told = trained(tmp_path)["train"]
    assert told["items"] == 4
    assert "own.csv" in told["source"] and "split" not in told["source"]


def test_one_table_validated_with_another(folder: Path, tmp_path: Path) -> None:
    done = invoke(
        "train", "table", "--root", str(folder / "own.csv"), "--data", "negative_texts=foil", "-o", str(tmp_path),
        "--validation-root", str(folder / "held_out.csv"), "--validation-limit", "2", "--json", *TRAIN,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)["data"]
    assert (told["train"]["items"], told["validation"]["items"]) == (4, 2)
    assert "own.csv" in told["train"]["source"] and "held_out.csv" in told["validation"]["source"]


def test_a_folder_of_tables_has_splits(folder: Path, tmp_path: Path) -> None:
    common = ["train", "table", "--root", str(folder / "split"), "--data", "negative_texts=foil", *TRAIN]
    done = invoke(*common, "-o", str(tmp_path / "a"), "--validation-split", "eval", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)["data"]
    assert "train.csv" in told["train"]["source"] and "eval.csv" in told["validation"]["source"]
    other = invoke(*common, "-o", str(tmp_path / "b"), "--split", "eval")
    assert other.exit_code == 0, other.output
    assert "eval.csv" in trained(tmp_path / "b")["train"]["source"]
    unknown = invoke(*common, "-o", str(tmp_path / "c"), "--split", "trian")
    assert (unknown.exit_code, unknown.stdout) == (2, "")
    assert "no split 'trian'; there are: eval, train" in unknown.stderr


def test_shards(folder: Path, tmp_path: Path) -> None:
    done = invoke(
        "train", "webdataset", "--root", str(folder / "00000.tar"), "--in-batch", "--batch-size", "2", "-o",
        str(tmp_path), *TRAIN,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert trained(tmp_path)["train"]["items"] == 4


def test_what_save_to_disk_wrote(folder: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {
        "image": [str(folder / f"{n}.png") for n in range(3)],
        "text": ["a", "b", "c"],
        "foil": ["d", "e", "f"],
    }
    datasets.Dataset.from_dict(rows).save_to_disk(str(tmp_path / "saved"))
    output = tmp_path / "out"
    done = invoke(
        "train", "hf", "--root", str(tmp_path / "saved"), "--data", "negative_texts=foil", "-o", str(output), *TRAIN
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert trained(output)["train"]["items"] == 3


def test_nobody_trains_on_a_test_split_unasked(tmp_path: Path) -> None:
    result = invoke("train", "sugarcrepe", "--root", str(tmp_path), "-o", str(tmp_path / "out"), *TRAIN)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "sugarcrepe has no split 'train'; there are: test" in result.stderr
    done = invoke("train", "shapes", "--data", "n=2", "-o", str(tmp_path / "out"), *TRAIN)
    assert done.exit_code == 0, done.output
    assert "split='train'" in trained(tmp_path / "out")["train"]["source"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["image=a", "image=b"], {"image": ["a", "b"]}),
        (["image=a,b"], {"image": ["a", "b"]}),
        (["image=a, b", "image=c"], {"image": ["a", "b", "c"]}),
        (['image=["a","b"]', "image=c"], {"image": ["a", "b", "c"]}),
        (['image="a,b"'], {"image": "a,b"}),
        (["template=a {c}, or so"], {"template": "a {c}, or so"}),
        (["n=3"], {"n": 3}),
        (["n=3", "n=4"], {"n": [3, 4]}),
        (["leaky=False", "key=None"], {"leaky": False, "key": None}),
        (["leaky=false", "key=null", "share=0.5"], {"leaky": False, "key": None, "share": 0.5}),
        (["share=NaN"], {"share": "NaN"}),
        (["image-root=a=b"], {"image_root": "a=b"}),
    ],
)
def test_options_of_a_dataset(given: list[str], expected: dict[str, Any]) -> None:
    assert pairs("--data", given, frozenset({"image", "text"})) == expected


def test_what_is_no_option_of_a_dataset() -> None:
    for given in ("n", "=3"):
        with pytest.raises(typer.BadParameter, match="expected NAME=VALUE"):
            pairs("--data", [given])


@pytest.mark.parametrize(
    "columns", [["negative_texts=foil,other foil"], ["negative_texts=foil", "negative_texts=other foil"]]
)
def test_several_columns(columns: list[str], folder: Path, tmp_path: Path) -> None:
    data = [part for column in columns for part in ("--data", column)]
    rows = tmp_path / "rows.jsonl"
    result = invoke(
        "eval", "table", "--root", str(folder / "own.csv"), *data, "--json", "-o", str(rows), *QUICK
    )
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["settings"]["items"]["roles"]["negative_texts"] == ["foil", "other foil"]
    assert len(rows.read_text().splitlines()) == 4 * 3


def test_the_first_are_left_out(folder: Path) -> None:
    common = [
        "eval",
        "table",
        "--root",
        str(folder / "own.csv"),
        "--data",
        "negative_texts=foil",
        "--json",
        *QUICK,
    ]
    result = invoke(*common, "--skip", "1", "--limit", "2")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["n_scored"], told["settings"]["items"]["slice"]) == (2, [1, None, None])


def test_one_half_to_choose_on_and_one_to_report(tmp_path: Path) -> None:
    common = ["eval", "shapes", "--data", "n=8", "--sample", "5", "--sample-seed", "3", *QUICK]
    keys = []
    for name, more in (("a.jsonl", []), ("b.jsonl", ["--rest"]), ("c.jsonl", [])):
        result = invoke(*common, *more, "-o", str(tmp_path / name))
        assert result.exit_code == 0, result.output
        keys.append({json.loads(line)["key"] for line in (tmp_path / name).read_text().splitlines()})
    assert [len(some) for some in keys] == [5, 3, 5]
    assert keys[0] == keys[2] and not keys[0] & keys[1]
    other = invoke(*common[:7], "4", *QUICK, "-o", str(tmp_path / "d.jsonl"))
    assert other.exit_code == 0, other.output
    assert {json.loads(line)["key"] for line in (tmp_path / "d.jsonl").read_text().splitlines()} != keys[0]
