"""Callbacks of :meth:`Trainer.fit` that show a run in other programs.

>>> trainer.fit(items, callbacks=[TensorBoardCallback("runs/first")])
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from discffusion.errors import InstallationError

if TYPE_CHECKING:
    from discffusion.trainer import Trainer
    from discffusion.training.history import History

__all__ = ["TensorBoardCallback", "TrackioCallback"]

_PIP_LINE = 'pip install "discffusion[train]"'


class TensorBoardCallback:
    """Writes every number of the history for TensorBoard.

    A run that is taken up again replaces what an earlier attempt wrote of later steps.

    Args:
        log_dir: folder of the event files.

    Raises:
        InstallationError: tensorboard is not installed.
    """

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise InstallationError(f"TensorBoardCallback needs tensorboard ({error}): {_PIP_LINE}") from None
        self._make, self._log_dir = SummaryWriter, os.fspath(log_dir)
        self._writer: Any = None

    def on_step(self, trainer: Trainer, row: dict[str, Any]) -> None:
        self._write("train", row)

    def on_validation(self, trainer: Trainer, row: dict[str, Any]) -> None:
        self._write("validation", row)

    def on_end(self, trainer: Trainer, history: History) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, group: str, row: dict[str, Any]) -> None:
        if self._writer is None:
            self._writer = self._make(self._log_dir, purge_step=row["step"], flush_secs=10)
        for name, value in _figures(row).items():
            self._writer.add_scalar(f"{group}/{name}", value, row["step"])
        if group == "validation":
            self._writer.flush()


class TrackioCallback:
    """Logs every number of the history to trackio, with the options of training and score as the run's configuration.

    Args:
        project: trackio's project.
        name: the run's name; a run of that name is gone on with. None for a name that trackio makes up.
        options: what else ``trackio.init`` takes, as ``space_id``.

    Raises:
        InstallationError: trackio is not installed.
    """

    def __init__(self, project: str, name: str | None = None, **options: Any) -> None:
        try:
            import trackio
        except ImportError as error:
            raise InstallationError(f"TrackioCallback needs trackio ({error}): {_PIP_LINE}") from None
        self._init = trackio.init
        self._arguments = {
            "project": project,
            "name": name,
            "resume": "allow" if name else "never",
            **options,
        }
        self._run: Any = None

    def on_step(self, trainer: Trainer, row: dict[str, Any]) -> None:
        self._log(trainer, "train", row)

    def on_validation(self, trainer: Trainer, row: dict[str, Any]) -> None:
        self._log(trainer, "validation", row)

    def on_end(self, trainer: Trainer, history: History) -> None:
        if self._run is not None:
            self._run.finish()
            self._run = None

    def _log(self, trainer: Trainer, group: str, row: dict[str, Any]) -> None:
        if self._run is None:
            self._run = self._init(**{"config": trainer.about(), **self._arguments})
        self._run.log({f"{group}/{name}": value for name, value in _figures(row).items()}, step=row["step"])


def _figures(row: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name != "step"}
