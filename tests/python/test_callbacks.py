"""Callbacks that show a run elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.python.training_items import Drawn, threads, trainer_of

from discffusion import InstallationError, Scorer
from discffusion.callbacks import TensorBoardCallback, TrackioCallback


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with threads(1):
        yield


@pytest.mark.parametrize(
    ("module", "make"),
    [("tensorboard", TensorBoardCallback), ("trackio", TrackioCallback)],
    ids=["tensorboard", "trackio"],
)
def test_what_is_missing_is_named(module: str, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(InstallationError, match=rf"{module}.*pip install .discffusion\[train\]"):
        make("here")


def test_tensorboard(scorer: Scorer, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def stop(row: dict[str, Any]) -> None:
        if row["step"] == 3:
            raise InterruptedError

    run: dict[str, Any] = {"checkpoint_dir": tmp_path / "run", "checkpoint_every": 100}
    with pytest.raises(InterruptedError):
        trainer_of(scorer).fit(
            Drawn(2), Drawn(1), 2, callbacks=[TensorBoardCallback(tmp_path / "log"), stop], **run
        )
    for path in (tmp_path / "run").glob("step-00000003*"):
        path.unlink()  # so that the third step is done again
    callback = TensorBoardCallback(tmp_path / "log")
    history = trainer_of(scorer).fit(Drawn(2), Drawn(1), 2, callbacks=[callback], **run)
    written = EventAccumulator(str(tmp_path / "log"))
    written.Reload()
    assert "validation/accuracy" in written.Tags()["scalars"]
    for name in ("loss", "learning_rate", "rows"):
        events = written.Scalars(f"train/{name}")
        assert [event.step for event in events] == [1, 2, 3, 4]
        assert [event.value for event in events] == pytest.approx(history[name], rel=1e-6)
    assert [event.step for event in written.Scalars("validation/accuracy")] == [0, 2, 4]


def test_trackio(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    class Run:
        def log(self, metrics: dict[str, Any], step: int | None = None) -> None:
            calls.append((step, metrics))

        def finish(self) -> None:
            calls.append("finished")

    def init(**options: Any) -> Run:
        calls.append(options)
        return Run()

    monkeypatch.setitem(sys.modules, "trackio", SimpleNamespace(init=init))
    trainer = trainer_of(scorer)
    history = trainer.fit(Drawn(2), Drawn(1), callbacks=[TrackioCallback("project", name="first", group="a")])
    options = calls[0]
    assert (options["project"], options["name"], options["group"]) == ("project", "first", "a")
    assert options["resume"] == "allow"
    assert options["config"]["training_options"] == trainer.options
    assert [call[0] for call in calls[1:-1]] == history["step"]
    assert calls[2][1]["train/loss"] == history["loss"][0]
    assert calls[1][1]["validation/accuracy"] == history["accuracy"][0]
    assert calls[-1] == "finished"
