"""A run that is killed, interrupted or finds its files spoilt ends with the deltas of one that was never disturbed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.python.training_child import EPOCHS, STEPS, WINDOWS, outcome, train, trainer_of_run
from tests.python.training_items import SCORE, Drawn, threads, trainer_of

import discffusion
from discffusion import ConfigError, DeltasError, Scorer, Trainer, TrainingError
from discffusion.training.folder import Folder
from discffusion.training.history import History

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with threads(1):
        yield


@pytest.fixture(scope="module")
def undisturbed(scorer: Scorer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run ends with that nothing happens to, and the folder it leaves."""
    path = tmp_path_factory.mktemp("undisturbed")
    return {"folder": path, **outcome(train(scorer, path))}


def start(model: Path, folder: Path, *window: str, epochs: int = EPOCHS) -> subprocess.Popen[str]:
    package = Path(discffusion.__file__).parents[1]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.python.training_child", str(model), str(folder), str(epochs), *window],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(package)]), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(model: Path, folder: Path, epochs: int = EPOCHS) -> dict[str, Any]:
    child = start(model, folder, epochs=epochs)
    printed, errors = child.communicate(timeout=300)
    assert child.returncode == 0, errors
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def same(found: dict[str, Any], undisturbed: dict[str, Any]) -> bool:
    return bool(found["digest"] == undisturbed["digest"] and found["history"] == undisturbed["history"])


def kill(model: Path, folder: Path, rows: int, delay: float, epochs: int = EPOCHS) -> None:
    """Kills a run some seconds after so many rows of its history, while it is at work."""
    child = start(model, folder, epochs=epochs)
    assert child.stdout is not None
    for _ in range(rows):
        child.stdout.readline()
    time.sleep(delay)
    child.kill()
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL, "it ended before it was killed"


def test_folder_or_none_ends_alike(scorer: Scorer, undisturbed: dict[str, Any]) -> None:
    assert same(outcome(train(scorer, None)), undisturbed)
    assert [row["step"] for row in undisturbed["history"] if "loss" in row] == list(range(1, STEPS + 1))
    folder = undisturbed["folder"]
    assert sorted(path.name for path in folder.glob("step-*")) == [
        f"step-{step:08}.safetensors" for step in (STEPS - 1, STEPS)
    ]
    lines = (folder / "history.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == undisturbed["history"]


def test_killed_in_every_window(tiny: Path, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    for window in WINDOWS:
        child = start(tiny, tmp_path, window)
        errors = child.communicate(timeout=300)[1]
        assert child.returncode == -signal.SIGKILL, (window, errors)
    assert same(finish(tiny, tmp_path), undisturbed)
    assert not list(tmp_path.glob(".*"))


def test_killed_at_random(tiny: Path, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    draw = random.Random(20)
    for rows in (0, 3, 2):
        kill(tiny, tmp_path, rows, draw.uniform(0, 0.05))
    assert same(finish(tiny, tmp_path), undisturbed)


@pytest.mark.slow
def test_killed_twenty_times_at_random(scorer: Scorer, tiny: Path, tmp_path: Path) -> None:
    epochs = 60
    undisturbed = outcome(train(scorer, None, epochs=epochs))
    draw = random.Random(2026)
    for _ in range(20):
        kill(tiny, tmp_path, draw.randrange(8), draw.uniform(0, 0.1), epochs)
    assert same(finish(tiny, tmp_path, epochs), undisturbed)


class StopError(Exception):
    pass


def stopped(scorer: Scorer, path: Path, step: int, **more: Any) -> None:
    """A run that ends with an error in a callback after a step."""

    def stop(row: dict[str, Any]) -> None:
        if row["step"] >= step and "loss" in row:
            raise StopError

    with pytest.raises(StopError):
        train(scorer, path, [stop], **more)


@pytest.mark.parametrize("step", [1, 5, 14])
def test_an_error_in_a_callback_loses_nothing(
    step: int, scorer: Scorer, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    stopped(scorer, tmp_path, step)
    assert (tmp_path / f"step-{step:08}.safetensors").is_file()
    steps: list[int] = []
    trainer = train(scorer, tmp_path, [lambda row: steps.append(row["step"]) if "loss" in row else None])
    assert steps == list(range(step + 1, STEPS + 1))
    assert same(outcome(trainer), undisturbed)


@pytest.mark.parametrize("owner", [Folder, History], ids=["file", "memory"])
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("number", [4, 7])
def test_ctrl_c_between_a_step_and_its_row(
    owner: Any,
    before: bool,
    number: int,
    scorer: Scorer,
    tmp_path: Path,
    undisturbed: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The seventh row is of a validation."""
    append, calls = owner.append, []

    def interrupted(self: Any, row: dict[str, Any]) -> None:
        calls.append(row)
        if len(calls) == number and before:
            raise KeyboardInterrupt
        append(self, row)
        if len(calls) == number:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(owner, "append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(scorer, tmp_path)
    done = calls[number - 1]["step"]
    assert (tmp_path / f"step-{done:08}.safetensors").is_file()
    steps: list[int] = []
    trainer = train(scorer, tmp_path, [lambda row: steps.append(row["step"]) if "loss" in row else None])
    assert steps == list(range(done + 1, STEPS + 1))
    assert same(outcome(trainer), undisturbed)
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == undisturbed["history"]


def test_a_finished_run_returns_at_once(scorer: Scorer, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    shutil.copytree(undisturbed["folder"], tmp_path, dirs_exist_ok=True)
    rows: list[Any] = []
    assert same(outcome(train(scorer, tmp_path, [rows.append])), undisturbed)
    assert rows == []


def test_one_trainer_may_go_on(scorer: Scorer, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    """As where a cell of a notebook is interrupted and run again."""

    def stop(row: dict[str, Any]) -> None:
        if row["step"] == 7:
            raise KeyboardInterrupt

    trainer = trainer_of_run(scorer)
    more: dict[str, Any] = {"epochs": EPOCHS, "checkpoint_dir": tmp_path, "checkpoint_every": 100}
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(Drawn(5), Drawn(2, first=20), callbacks=[stop], **more)
    trainer.fit(Drawn(5), Drawn(2, first=20), **more)
    assert same(outcome(trainer), undisturbed)


def test_more_epochs_go_on(scorer: Scorer, tmp_path: Path) -> None:
    whole = trainer_of(scorer)
    whole.fit(Drawn(3), epochs=4, batch_size=2)
    trainer_of(scorer).fit(Drawn(3), epochs=2, batch_size=2, checkpoint_dir=tmp_path)
    parts = trainer_of(scorer)
    parts.fit(Drawn(3), epochs=4, batch_size=2, checkpoint_dir=tmp_path)
    assert outcome(parts) == outcome(whole)
    with pytest.raises(ConfigError, match="has done 8 steps, and 2 are asked for"):
        trainer_of(scorer).fit(Drawn(3), batch_size=2, checkpoint_dir=tmp_path)


def test_starting_over(scorer: Scorer, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    trainer_of(scorer).fit(Drawn(9), Drawn(1), epochs=2, checkpoint_dir=tmp_path)
    trainer = train(scorer, tmp_path, resume=False)
    assert same(outcome(trainer), undisturbed)
    assert {path.name for path in tmp_path.iterdir()} == {
        path.name for path in undisturbed["folder"].iterdir()
    }


# what another command differs in, and what the error names
OTHERS: dict[str, tuple[Callable[[Scorer, Path], Any], str]] = {
    "training option": (
        lambda s, p: trainer_of(s, margin=0.3).fit(Drawn(3), checkpoint_dir=p),
        r"margin = 0\.5, now it is 0\.3",
    ),
    "score": (
        lambda s, p: Trainer(s.with_config(**SCORE, seed=3), **trainer_of(s).options).fit(
            Drawn(3), checkpoint_dir=p
        ),
        "seed = 0, now it is 3",
    ),
    "batch size": (
        lambda s, p: trainer_of(s).fit(Drawn(3), batch_size=2, checkpoint_dir=p),
        "training batch_size was 1 and is 2",
    ),
    "number of items": (
        lambda s, p: trainer_of(s).fit(Drawn(4), checkpoint_dir=p),
        "data train items was 3 and is 4",
    ),
    "items": (
        lambda s, p: trainer_of(s).fit(Drawn(3, first=1), checkpoint_dir=p),
        "data train digest was",
    ),
    "validation": (
        lambda s, p: trainer_of(s).fit(Drawn(3), Drawn(1), checkpoint_dir=p),
        "data validation was null and is",
    ),
    "deltas at the start": (
        lambda s, p: Trainer(_moved(s), **trainer_of(s).options).fit(Drawn(3), checkpoint_dir=p),
        'start_deltas was .* and is "others"',
    ),
}


def _moved(scorer: Scorer) -> Scorer:
    trainer = trainer_of(scorer)
    trainer.fit(Drawn(1))
    return trainer.scorer


@pytest.mark.parametrize("name", OTHERS)
def test_another_run_is_refused(name: str, scorer: Scorer, tmp_path: Path) -> None:
    trainer_of(scorer).fit(Drawn(3), checkpoint_dir=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != "lock"}
    go_on, pattern = OTHERS[name]
    with pytest.raises(ConfigError, match=f"{pattern}.*resume=False"):
        go_on(scorer, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != "lock"} == before


def test_one_run_to_a_folder(scorer: Scorer, tmp_path: Path) -> None:
    with Folder(tmp_path):
        with pytest.raises(
            TrainingError, match=f"another run .process {os.getpid()}. is running in"
        ) as caught:
            trainer_of(scorer).fit(Drawn(1), checkpoint_dir=tmp_path)
        assert isinstance(caught.value, RuntimeError)
    trainer_of(scorer).fit(Drawn(1), checkpoint_dir=tmp_path)


def test_a_folder_that_cannot_be(scorer: Scorer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="checkpoint_dir .*file.* cannot be used"):
        trainer_of(scorer).fit(Drawn(1), checkpoint_dir=tmp_path / "file")


def _cut(share: float) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return spoil


def _flip(share: float) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[int(len(data) * share)] ^= 1
        path.write_bytes(data)

    return spoil


def _write(data: bytes) -> Callable[[Path], None]:
    return lambda path: (path.write_bytes(data), None)[1]


def _copy(name: str) -> Callable[[Path], None]:
    return lambda path: (shutil.copy(next(path.parent.glob(name)), path), None)[1]


def _reworded(old: bytes, new: bytes) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        data = path.read_bytes()
        assert old in data
        assert len(old) == len(new)
        path.write_bytes(data.replace(old, new))

    return spoil


# what happens to the latest state
SPOILT: dict[str, Callable[[Path], None]] = {
    "empty": _write(b""),
    "one byte": _cut(1e-9),
    "half a header": _cut(0.02),
    "half": _cut(0.5),
    "all but the end": _cut(0.999),
    "a bit of the length": _flip(0),
    "a bit of the header": _flip(0.01),
    "a bit of the numbers": _flip(0.5),
    "the last bit": _flip(0.99999),
    "zeros": _write(bytes(4096)),
    "noise": _write(random.Random(3).randbytes(4096)),
    "a pickle": _write(b"\x80\x04K\x01."),
    "deltas": _copy("best-*"),
    "an earlier state by another name": _copy("step-00000014*"),
    "other steps": _reworded(b'\\"steps\\":15', b'\\"steps\\":14'),
    "another format": _reworded(b"discffusion.state", b"discffusion.stale"),
    "something after the end": lambda path: (path.write_bytes(path.read_bytes() + b"x"), None)[1],
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_state_gives_way_to_the_one_before(
    name: str, scorer: Scorer, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    shutil.copytree(undisturbed["folder"], tmp_path, dirs_exist_ok=True)
    SPOILT[name](tmp_path / f"step-{STEPS:08}.safetensors")
    steps: list[int] = []
    with pytest.warns(UserWarning, match=rf"going on from .*step-000000{STEPS - 1}.*step-000000{STEPS}"):
        trainer = train(scorer, tmp_path, [lambda row: steps.append(row["step"]) if "loss" in row else None])
    assert steps == [STEPS]
    assert same(outcome(trainer), undisturbed)
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert rows == undisturbed["history"]


def test_no_state_left(scorer: Scorer, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    shutil.copytree(undisturbed["folder"], tmp_path, dirs_exist_ok=True)
    for path in tmp_path.glob("step-*"):
        path.write_bytes(b"spoilt")
    with pytest.raises(
        DeltasError, match="no state in .* can be read .*delete the folder, or pass resume=False"
    ):
        train(scorer, tmp_path)
    assert same(outcome(train(scorer, tmp_path, resume=False)), undisturbed)


def test_spoilt_best_deltas(scorer: Scorer, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    """A state is worth nothing without the best deltas it tells of."""
    shutil.copytree(undisturbed["folder"], tmp_path, dirs_exist_ok=True)
    for path in tmp_path.glob("best-*"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DeltasError, match="best-.*resume=False"):
        train(scorer, tmp_path)


@pytest.mark.parametrize(
    "spoil", [Path.unlink, _write(b"\xff\xfe\n{}\n[1]\n"), _cut(0.4)], ids=["gone", "foreign", "cut"]
)
def test_a_spoilt_history_costs_no_deltas(
    spoil: Callable[[Path], None], scorer: Scorer, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    stopped(scorer, tmp_path, 7)
    spoil(tmp_path / "history.jsonl")
    with pytest.warns(UserWarning, match="lacks .* of 7 steps"):
        trainer = train(scorer, tmp_path)
    assert trainer.deltas.digest() == undisturbed["digest"]
    assert trainer.history.validations == [row for row in undisturbed["history"] if "accuracy" in row]
    assert trainer.history.steps[-8:] == [row for row in undisturbed["history"] if "loss" in row][-8:]


def test_early_stopping_is_remembered(scorer: Scorer, tmp_path: Path) -> None:
    fit: dict[str, Any] = {"epochs": 50, "patience": 1, "checkpoint_dir": tmp_path}
    first = trainer_of(scorer, learning_rate=0.0)  # nothing ever gets better
    history = first.fit(Drawn(2), Drawn(1), **fit)
    assert len(history.steps) == 2
    rows: list[Any] = []
    second = trainer_of(scorer, learning_rate=0.0)
    assert second.fit(Drawn(2), Drawn(1), callbacks=[rows.append], **fit) == history
    assert rows == []
    assert (
        len(trainer_of(scorer, learning_rate=0.0).fit(Drawn(2), Drawn(1), **{**fit, "patience": 2}).steps)
        == 4
    )


def test_a_run_of_the_former_default_goes_on(scorer: Scorer, tmp_path: Path) -> None:
    """Steps were drawn from the configuration's timesteps, however few, before there was ``"auto"``."""
    few = scorer.with_config(**{**SCORE, "noise_levels": [0.3, 0.7]})
    options: dict[str, Any] = {"layers": "up", "temperature": 0.1, "margin": 0.5}

    def fit(epochs: int, path: Path | None = None, **more: Any) -> Trainer:
        trainer = Trainer(few, **options, **more)
        trainer.fit(Drawn(3), epochs=epochs, checkpoint_dir=path)
        return trainer

    whole = fit(4, timesteps="config")
    fit(2, tmp_path, timesteps="config")
    for epochs in (3, 4):  # the second time from a state of this release
        resumed = fit(epochs, tmp_path)
    assert outcome(resumed) == outcome(whole)
    assert resumed.about()["training"]["timesteps"] == "config"
    other = fit(4)
    assert other.about()["training"]["timesteps"] == "range"
    assert other.deltas.digest() != whole.deltas.digest()
    fit(2, tmp_path / "new")
    with pytest.raises(ConfigError, match='timesteps = "auto", now it is "config"'):
        fit(4, tmp_path / "new", timesteps="config")
    with pytest.raises(ConfigError, match='temperature_schedule = null, now it is "noise"'):
        fit(4, tmp_path / "new", temperature_schedule="noise")


def test_a_measured_temperature_is_remembered(scorer: Scorer, tmp_path: Path) -> None:
    def fit(epochs: int, path: Path | None = None) -> Trainer:
        own = scorer.with_config(**{**SCORE, "noise_levels": [0.2, 0.5, 0.8]})
        trainer = Trainer(own, layers="up", temperature_schedule="noise")
        trainer.fit(Drawn(3), epochs=epochs, checkpoint_dir=path)
        return trainer

    whole = fit(3)
    fit(1, tmp_path)
    assert outcome(fit(3, tmp_path)) == outcome(whole)
    with pytest.raises(ConfigError, match='temperature_schedule = "noise", now it is "constant"'):
        Trainer(whole._scorer, layers="up").fit(Drawn(3), epochs=3, checkpoint_dir=tmp_path)
