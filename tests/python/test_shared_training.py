"""Training by several processes: the deltas of one, in each of them, also after kills and with another number."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.python.groups_child import GROUPS
from tests.python.processes import ROOT, environment, finished, job
from tests.python.shared_training_child import STEPS
from tests.python.training_items import Drawn, threads, trainer_of

from discffusion import ConfigError, Scorer
from discffusion._processes import SingleProcess

CHILD = "tests.python.shared_training_child"


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with threads(1):
        yield


@pytest.fixture(scope="module")
def undisturbed(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process ends with: a process of its own too, since the last bits may depend on what one did before."""
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    finished(job([CHILD, str(tiny), str(output)], 1))
    return Path(f"{output}-0.npz")


def read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Deltas with head weights, and history."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    return arrays, json.loads(str(arrays.pop("history")))


def check(output: Path, count: int, undisturbed: Path) -> None:
    """Deltas and head weights to the last bit; sums of float64 in the history in another order."""
    arrays, history = read(undisturbed)
    assert any(name.startswith("heads.") for name in arrays)
    assert [row["step"] for row in history if "loss" in row] == list(range(1, STEPS + 1))
    for rank in range(count):
        found, rows = read(Path(f"{output}-{rank}.npz"))
        assert found.keys() == arrays.keys()
        for name, values in arrays.items():
            np.testing.assert_array_equal(found[name], values, err_msg=name)
        assert [row.keys() for row in rows] == [row.keys() for row in history]
        for row, expected in zip(rows, history, strict=True):
            for name, value in expected.items():
                assert row[name] == pytest.approx(value, rel=1e-12, abs=1e-15), (row, name)


def torchrun(module: str, count: int, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    return subprocess.Popen(
        [*command, "--module", module, *arguments],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes(tiny: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Told of each other by environment variables alone; one of them is killed, and four take the run up."""
    folder, output = tmp_path / "run", tmp_path / "out"
    first = job([CHILD, str(tiny), str(output), str(folder)], 2)
    assert first[0].stdout is not None
    for _ in range(4):
        assert first[0].stdout.readline(), "it ended before it was killed"
    first[1].kill()
    _, errors = first[0].communicate(timeout=60)
    first[1].communicate(timeout=60)
    if first[0].returncode == 0:
        pytest.fail("it ended before it was killed")
    assert "lost contact with the others" in errors
    states = sorted(path.name for path in folder.glob("step-*"))
    assert states and states[-1] < f"step-{STEPS:08}"
    printed = finished(job([CHILD, str(tiny), str(output), str(folder)], 4))
    steps = [int(line) for line in printed[0].split()]
    assert steps[-1] == STEPS and steps[0] > 1 and printed[1:] == [""] * 3
    check(output, 4, undisturbed)
    # a finished run is the same for one process, and nothing of others is left
    assert {path.suffix for path in folder.iterdir() if path.name != "lock"} == {".safetensors", ".jsonl"}


def test_groups_one_after_the_other() -> None:
    """As of several fits in one program: torchrun remembers where the processes of the one before were."""
    run = torchrun("tests.python.groups_child", 3)
    printed, errors = run.communicate(timeout=120)
    assert run.returncode == 0, errors
    assert printed.split() == [str(3 * number + 3) for number in range(GROUPS)]


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 4])
def test_torchrun(count: int, tiny: Path, undisturbed: Path, tmp_path: Path) -> None:
    run = torchrun(CHILD, count, str(tiny), str(tmp_path / "out"))
    _, errors = run.communicate(timeout=300)
    assert run.returncode == 0, errors
    check(tmp_path / "out", count, undisturbed)


@pytest.mark.slow
def test_torchrun_killed(tiny: Path, undisturbed: Path, tmp_path: Path) -> None:
    """A worker is killed, torchrun ends the others, and the same command goes on."""
    import os
    import signal

    given = (str(tiny), str(tmp_path / "out"), str(tmp_path / "run"))
    run = torchrun(CHILD, 2, *given)
    assert run.stdout is not None
    for _ in range(3):
        assert run.stdout.readline()
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    run.communicate(timeout=120)
    assert run.returncode != 0
    again = torchrun(CHILD, 2, *given)
    _, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    check(tmp_path / "out", 2, undisturbed)


@pytest.mark.slow
def test_command_line(tiny: Path, tmp_path: Path) -> None:
    """Both commands by two processes: the first alone says and writes what one would."""
    common = [
        "--model",
        str(tiny),
        "--device",
        "cpu",
        "--json",
        "--noise-levels",
        "0.5",
        "--truncate",
        "silent",
    ]
    score = ["discffusion", "eval", "shapes", "--limit", "20", *common]
    fit = ["discffusion", "train", "shapes", "--limit", "4", "--batch-size", "2", "--rank", "2", *common]
    found = []
    for count in (1, 2):
        rows, folder = tmp_path / f"{count}.jsonl", tmp_path / str(count)
        first, *others = finished(job([*score, "--output", str(rows)], count))
        assert others == [""] * (count - 1) and len(rows.read_text().splitlines()) == 80
        trained, *others = finished(job([*fit, "--output", str(folder)], count))
        assert others == [""] * (count - 1) and json.loads(trained)["steps"] == 2
        assert (folder / "deltas.safetensors").is_file() and (folder / "README.md").is_file()
        found.append((json.loads(first)["values"], json.loads(trained)["loss"]))
    assert found[0][0] == found[1][0] and found[1][1] == pytest.approx(found[0][1], rel=1e-12)


def test_items_of_a_batch_that_are_compared_are_not_shared(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import contextlib

    class Two(SingleProcess):
        size = 2

    monkeypatch.setattr("discffusion.trainer.joined", lambda *_: contextlib.nullcontext(Two()))
    with pytest.raises(ConfigError, match="in_batch compares all items"):
        trainer_of(scorer, in_batch=True).fit(Drawn(4), batch_size=2)


def test_shares_of_a_batch_add_up(scorer: Scorer) -> None:
    """Without any process: the halves of a step by hand give the step, and its report."""
    steps, shares = (trainer_of(scorer)._core for _ in range(2))
    items = Drawn(3)
    for core in (steps, shares):
        for index in range(3):
            core.add(
                index,
                [np.asarray(image) for image in items[index].images],
                items[index].texts,
                items[index].match,
            )
    for _ in range(3):
        whole = np.concatenate([part.ravel() for part in steps.gradients([2, 0, 1])["gradients"].values()])
        parts = [shares.share([2, 0], 0, 3), shares.share([], 2, 3), shares.share([1], 2, 3)]
        gradient, statistics = (np.sum(values, axis=0) for values in zip(*parts, strict=True))
        assert gradient.shape == (json.loads(shares.info())["parameters"],) and gradient.dtype == np.float64
        np.testing.assert_allclose(gradient, whole, rtol=1e-4, atol=1e-6 * np.abs(whole).max())
        report = json.loads(steps.step([2, 0, 1], 5))
        found = shares.apply(gradient, statistics, 5)
        assert found is not None
        for name, value in json.loads(found).items():
            assert value == pytest.approx(report[name], rel=1e-5), name
        shares.set_deltas(
            steps.deltas()
        )  # Adam divides by the gradients' size, and so enlarges their rounding


def test_gradients_of_another_model_are_refused(scorer: Scorer) -> None:
    core = trainer_of(scorer)._core
    with pytest.raises(Exception, match="a gradient of another model"):
        core.apply(np.zeros(3), np.zeros(3), 1)
    with pytest.raises(Exception, match="needs a temperature"):
        trainer_of(scorer, temperature=None)._core.share([], 0, 1)
    assert core.steps == 0
