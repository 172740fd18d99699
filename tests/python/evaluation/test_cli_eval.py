"""``discffusion eval``, in processes of its own where status and streams matter."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from tests.python.evaluation.fake_scorers import ByPairs
from typer.testing import CliRunner

import discffusion
from discffusion import Scorer, Trainer, baselines, evaluate, load_dataset
from discffusion.cli import build_app
from discffusion.config import option_table

# The pocket model at one timestep.
QUICK = ["--noise-levels", "0.5", "--device", "cpu"]


def start(*arguments: str) -> subprocess.Popen[str]:
    package = Path(discffusion.__file__).parents[1]
    return subprocess.Popen(
        [sys.executable, "-m", "discffusion", "eval", *arguments],
        env={**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a job in the background starts deaf to Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    child = start(*arguments)
    printed, errors = child.communicate(timeout=300)
    return subprocess.CompletedProcess(arguments, child.returncode, printed, errors)


def invoke(*arguments: str) -> Any:
    """In this process, where only what is printed matters."""
    return CliRunner().invoke(build_app(), ["eval", *arguments])


@pytest.fixture(scope="module")
def pocket() -> Iterator[Scorer]:
    with Scorer(device="cpu", noise_levels=[0.5]) as scorer:
        yield scorer


@pytest.fixture(scope="module")
def comvg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six rows in the published format, of which one lacks an image."""
    root = tmp_path_factory.mktemp("comvg")
    lines = ["id,sentence,pos_triplet,neg_triplet,pos_image_id,neg_image_id,neg_value"]
    for n in range(6):
        kind = ("subject", "object", "verb")[n % 3]
        negative = "\"('cat', 'laying in', 'grass')\""
        lines.append(f'{n},a man in the grass {n},"man,layingin,grass",{negative},{n},{n + 1},{kind}')
    (root / "compositional_visual_genome.csv").write_bytes("\r\n".join([*lines, ""]).encode())
    (root / "VG_100K").mkdir()
    for n in range(6):
        pixels = np.full((8, 8, 3), 30 * n, np.uint8)
        PIL.Image.fromarray(pixels).save(root / "VG_100K" / f"{n}.jpg")
    return root


def test_the_table(tmp_path: Path, pocket: Scorer) -> None:
    rows = tmp_path / "rows.jsonl"
    result = run("shapes", "--limit", "6", "--output", str(rows), *QUICK)
    assert (result.returncode, result.stderr) == (0, "")
    report = evaluate(pocket, load_dataset("shapes"), limit=6)
    assert result.stdout == report.table() + "\n"
    assert "limited to the first 6 items" in result.stdout
    assert len(rows.read_text().splitlines()) == 6 * 4
    assert invoke("shapes", "--limit", "6", "--output", str(rows), *QUICK).stdout == result.stdout


def test_as_json(tmp_path: Path, pocket: Scorer) -> None:
    rows = tmp_path / "rows.parquet"
    result = invoke(
        "shapes", "--subset", "referring", "--split", "eval", "--data", "n=5", "--data", "seed=3", "--metrics",
        "acc@1, accuracy", "--output", str(rows), "--json", *QUICK,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    items = load_dataset("shapes", split="eval", subset="referring", n=5, seed=3)
    report = evaluate(pocket, items, ["acc@1", "accuracy"], output=rows)
    assert found == {**json.loads(report.to_json()), "compared": {}}
    assert found["settings"]["items"]["seed"] == 3
    assert [value["metric"] for value in found["values"] if value["group"] is None] == ["acc@1", "accuracy"]


def test_comparing(tmp_path: Path, pocket: Scorer) -> None:
    first, second = tmp_path / "first.parquet", tmp_path / "second.jsonl"
    assert invoke("shapes", "--limit", "8", "-o", str(first), *QUICK).exit_code == 0
    arguments = ["shapes", "--limit", "8", "-o", str(second), "--noise-levels", "0.9", "--device", "cpu"]
    result = invoke(*arguments, "--compare", str(first))
    assert result.exit_code == 0, result.output
    items = load_dataset("shapes")
    other = evaluate(pocket.with_config(noise_levels=[0.9]), items, limit=8)
    expected = discffusion.compare(other, evaluate(pocket, items, limit=8))
    assert f"\n\n{second} − {first}:\n- {expected}" in result.stdout
    found = json.loads(invoke(*arguments, "--compare", str(first), "--json").stdout)
    reports = other, evaluate(pocket, items, limit=8)
    groups = sorted({record.group for record in other.records})
    assert len(groups) > 1
    by_group = [discffusion.compare(*reports, f"accuracy/{group}") for group in groups]
    assert found["compared"] == {str(first): [one.to_dict() for one in (expected, *by_group)]}
    assert invoke(*arguments, "--compare", str(tmp_path / "none.jsonl")).exit_code == 2


def test_missing_images(comvg: Path, tmp_path: Path) -> None:
    rows = str(tmp_path / "rows.jsonl")
    arguments = ["comvg", "--root", str(comvg), "--output", rows, *QUICK]
    result = run(*arguments)
    assert (result.returncode, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1
    assert re.search(r"1 images are missing.* 1 of 6 items .*6\.jpg.*--allow-missing", result.stderr)
    assert not Path(rows).exists()
    result = invoke(*arguments, "--allow-missing")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("comvg: 5 of 6 items scored; 1 images missing (")
    assert len(Path(rows).read_text().splitlines()) == 5 * 2
    found = json.loads(invoke(*arguments, "--allow-missing", "--json").stdout)
    assert (found["n_expected"], found["n_scored"], len(found["missing"])) == (6, 5, 1)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_command_that_was_stopped_goes_on(how: signal.Signals, tmp_path: Path, pocket: Scorer) -> None:
    rows, number = tmp_path / "rows.jsonl", 1000
    arguments = ["shapes", "--limit", str(number), "--output", str(rows), "--batch-items", "1", *QUICK]
    child = start(*arguments)
    for _ in range(6000):
        if (rows.exists() and rows.stat().st_size > 5000) or child.poll() is not None:
            break
        time.sleep(0.01)
    child.send_signal(how)
    printed, errors = child.communicate(timeout=60)
    assert printed == ""
    if how == signal.SIGINT:
        assert (child.returncode, errors) == (1, "discffusion: interrupted\n")
    else:
        assert child.returncode == -signal.SIGKILL
    done = rows.read_bytes()
    assert 4 <= done.count(b"\n") < 4 * number
    smaller = str(done.count(b"\n") // 4 + 3)
    result = invoke("shapes", "--limit", smaller, *arguments[3:])
    assert (result.exit_code, result.stderr) == (0, "")
    assert rows.read_bytes().startswith(done.rpartition(b"\n")[0])
    assert rows.read_bytes().count(b"\n") == 4 * int(smaller)
    expected = evaluate(pocket, load_dataset("shapes"), limit=int(smaller), batch_items=1)
    assert result.stdout == expected.table() + "\n"


def test_another_configuration_on_the_same_output(tmp_path: Path) -> None:
    rows = str(tmp_path / "rows.jsonl")
    assert invoke("shapes", "--limit", "2", "-o", rows, *QUICK).exit_code == 0
    other = ["shapes", "--limit", "2", "-o", rows, "--noise-levels", "0.4", "--device", "cpu"]
    result = invoke(*other)
    assert result.exit_code == 1
    assert "--noise-levels was [0.5] and is [0.4]" in result.stderr
    assert invoke(*other, "--no-resume").exit_code == 0


def test_with_deltas(tmp_path: Path, pocket: Scorer) -> None:
    trainer = Trainer(pocket, rank=1, layers="up", margin=0.5)
    trainer.fit(load_dataset("shapes", split="train", n=2))
    trainer.save(tmp_path / "deltas.safetensors")
    arguments = ["shapes", "--limit", "3", "--deltas", str(tmp_path / "deltas.safetensors"), "--json", *QUICK]
    found = json.loads(invoke(*arguments).stdout)
    assert found["settings"]["scorer"]["deltas"] == trainer.deltas.digest()
    expected = evaluate(trainer.scorer, load_dataset("shapes"), limit=3)
    assert found["values"] == json.loads(expected.to_json())["values"]


def test_a_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load(name: str, **options: Any) -> ByPairs:
        asked.append((name, options))
        return ByPairs(model=options["model"])

    monkeypatch.setattr(baselines, "load_baseline", load)
    result = invoke(
        "shapes", "--limit", "3", "--baseline", "clip", "--model", "pocket", "--option", "batch-size=8", "--option",
        "truncate=silent", "--dtype", "float32", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert asked == [("clip", {"model": "pocket", "dtype": "float32", "batch_size": 8, "truncate": "silent"})]
    assert json.loads(result.stdout)["settings"]["model"] == "pocket"


def test_a_baseline_of_this_package() -> None:
    result = invoke(
        "shapes", "--limit", "2", "--baseline", "diffusion-classifier", "--option", "steps=1", "--json"
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["settings"]["scorer"]["config"]["method"] == "denoising"


def test_the_lists() -> None:
    shown = invoke("--list")
    assert (shown.exit_code, shown.stderr) == (0, "")
    found = json.loads(invoke("--list", "--json").stdout)
    assert list(found["datasets"]) == discffusion.data.dataset_names()
    assert {"accuracy", "winoground", "retrieval"} <= set(found["metrics"])
    assert list(found["baselines"]) == baselines.baseline_names()
    for lines in found.values():
        for name, line in lines.items():
            assert re.search(rf"^  {re.escape(name)} +{re.escape(line)}$", shown.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "unknown dataset 'nonsense'; there are: aro, "),
        (["shapes", "--split", "x"], "no split 'x'; there are: "),
        (["shapes", "--subset", "x"], "no subset 'x'; there are: "),
        (["shapes", "--data", "colour=red"], "'colour'; `discffusion eval shapes --list` tells its options"),
        (["shapes", "--data", "n=1", "--data", "n=2"], "--data n is [1, 2]; it must be a whole number"),
        (["comvg"], "comvg needs --root, "),
        (["shapes", "--baseline", "nonsense"], "unknown baseline 'nonsense'; there are: "),
        (["shapes", "--baseline", "clip", "--option", "colour=red"], "clip has no option 'colour'"),
        (["shapes", "--output", "rows.csv"], "--output is 'rows.csv'; expected a .jsonl or a .parquet file"),
        (["shapes", "--metrics", "vqa", "--limit", "2", *QUICK], "vqa: item "),
        (["shapes", "--skip", "10000000"], "--skip is 10000000; there are "),
        (["shapes", "--data", "n=3", "--sample", "4"], "--sample is 4; there are 3 items"),
        (["shapes", "--rest"], "--rest goes with --sample"),
        (["shapes", "--sample-seed", "3"], "--sample-seed goes with --sample"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_what_is_asked_for_in_vain_is_a_usage_error(arguments: list[str], message: str) -> None:
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["shapes", "--limit", "0"],
        ["shapes", "--batch-items", "0"],
        ["shapes", "--metrics", "beauty"],
        ["shapes", "--data", "n"],
        ["shapes", "--option", "model=pocket"],
        ["shapes", "--baseline", "clip", "--steps", "2"],
        ["shapes", "--baseline", "clip", "--config", "paper"],
        ["shapes", "--baseline", "clip", "--dtype", "fastest"],
        ["shapes", "--baseline", "clip", "--deltas", "x.safetensors"],
        ["shapes", "--layers", "attic"],
        ["shapes", "--compare", "no/such/file.jsonl"],
    ],
    ids=" ".join,
)
def test_usage_errors(arguments: list[str]) -> None:
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["comvg", "--root", "no/such/folder"], "no/such/folder does not exist"),
        (["shapes", "--deltas", "missing.safetensors"], "missing.safetensors"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_other_errors_are_one_line(arguments: list[str], message: str) -> None:
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr


@pytest.mark.usefixtures("wide")
def test_help_lists_every_option() -> None:
    shown = invoke("--help").stdout
    own = [
        "root", "split", "subset", "limit", "data", "allow-missing", "output", "no-resume", "batch-items", "metrics",
        "compare", "deltas", "baseline", "option", "list", "json", "model", "device", "config",
    ]  # fmt: skip
    for name in [*own, *(row["name"].rstrip("_").replace("_", "-") for row in option_table())]:
        assert f"--{name} " in shown
