"""One run of a trainer, from its first step or the last checkpoint to its end."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from discffusion._processes import SingleProcess, own_range
from discffusion._progress import ProgressReport
from discffusion.data.items import Items
from discffusion.errors import ConfigError, DatasetError, ImageError, OutputError, TrainingError
from discffusion.images import prepare
from discffusion.training.callback_list import CallbackList, RunOwner
from discffusion.training.folder import Folder
from discffusion.training.follow import follow
from discffusion.training.history import History
from discffusion.training.plan import Plan
from discffusion.training.resume import pack, resume
from discffusion.training.validation import exhausted, measure

if TYPE_CHECKING:
    from discffusion import _core

__all__ = ["Run"]

# Items that the temperature is estimated from where none is given: enough for a mean, few enough for a slow machine.
_CALIBRATION = 8


class Run:
    """What one call of ``fit`` does. What happens in a step depends on its number, the options and the seed alone.

    Args:
        trainer: the trainer that it belongs to, which shows the run's deltas and history meanwhile.
        core: the core's trainer, which has not moved yet.
        settings: what must be the same when the run is taken up again.
        folder: of the run; None in all processes of a group but the first, which alone writes.
    """

    def __init__(
        self,
        trainer: RunOwner,
        core: _core.Trainer,
        train: Items,
        validation: Items | None,
        plan: Plan,
        settings: dict[str, Any],
        folder: Folder | None,
        callback_list: CallbackList,
        group: SingleProcess,
    ) -> None:
        self.history = History()
        self.plan, self.settings = plan, settings
        self._trainer, self._core, self._folder, self._callbacks = trainer, core, folder, callback_list
        self._train, self._validation, self._group = train, validation, group
        self._order: tuple[int, list[int]] | None = None
        self._best: _core.Deltas | None = None
        self._first = 0  # steps done before
        self._done: list[str] = []  # what the core said of steps that are not in the history yet
        self._states: list[tuple[int, int]] = []  # step and number of validations of the states that are kept
        self._restored: int | None = None

    @property
    def step(self) -> int:
        """After which step the core had the deltas that it has."""
        return self._core.steps if self._restored is None else self._restored

    def prepare(self, scorer: _core.Scorer, again: bool, starts: Callable[[], set[str]]) -> None:
        """Takes up what the folder holds, or empties it.

        Args:
            again: whether to go on from the last state there is.
            starts: digests of the deltas that the run may have started from.
        """
        if self._folder is not None:
            self._take_up(self._folder, scorer, again, starts)
        if self._group.size > 1:
            state: dict[str, Any] = {
                "first": self._first,
                "settings": self.settings,
                "rows": [dict(row) for row in self.history],
            }
            state, self._best = follow(self._group, self._core, scorer, state, self._best)
            self._first, self.settings = state["first"], state["settings"]
            self.history = History(state["rows"])

    def _take_up(
        self, folder: Folder, scorer: _core.Scorer, again: bool, starts: Callable[[], set[str]]
    ) -> None:
        folder.clean()
        state = resume(folder, self._core, scorer, self.settings, starts) if again else None
        done = self._core.steps
        if done > self.plan.total:
            raise OutputError(
                f"the run in {str(folder.path)!r} has done {done} steps, and {self.plan.total} are asked for; "
                "raise epochs or max_steps, give another checkpoint_dir, or start over with resume=False"
            )
        if state is None:
            folder.prune((), ())
        else:
            self.settings, self._best = state.settings, state.best
            self._states = [(done, len(state.validations))]
        self._first = done
        self.history = History(folder.rewind(done, state.validations if state else ()))

    def train(self, report: ProgressReport | None) -> None:
        """Runs to the end. What ends it before leaves the state of the last whole step in the folder."""
        core, total = self._core, self.plan.total
        if report is not None:
            report(core.steps, total, computed=False)
        try:
            while True:
                if self._validation is not None and self._validation_is_due():
                    self._validate(self._validation)
                if core.steps >= total or exhausted(self.history, self.plan.patience):
                    break
                self._one_step()
                if report is not None:
                    report(core.steps, total, loss=self.history[-1]["loss"])
                if self.plan.checkpoints(core.steps) and not self._validation_is_due():
                    self._save()
            self._save()
        except BaseException:
            with suppress(Exception):  # what ended the run is what the caller must hear of
                self._note()
                self._save()
            raise
        best = self.history.best
        if best is not None and best["step"] != core.steps and self._best is not None:
            core.set_deltas(self._best)
            self._restored = best["step"]
        self._callbacks.end(self._trainer, self.history)

    def _one_step(self) -> None:
        core, plan = self._core, self.plan
        epoch, place = divmod(core.steps, plan.steps_per_epoch)
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, core.order(epoch, plan.items))
        order = self._order[1]
        options = self.settings["training"]
        is_open = options["temperature"] is None or options.get("temperature_schedule") == "noise"
        if core.steps == 0 and is_open and not plan.in_batch:
            self._calibrate(order[: max(plan.batch_size, _CALIBRATION)])
        indices = plan.batch(order, place)
        part = own_range(len(indices), self._group)
        self._gather([indices[place] for place in part])
        try:
            # Ctrl-C may strike between the end of a call and the use of its value; within extend it cannot
            if self._group.launched and not plan.in_batch:
                self._done.extend(map(self._shared_step, [indices], [part]))
            else:
                self._done.extend(map(core.step, [indices], [plan.total]))
        except (DatasetError, TrainingError) as error:
            keys = ", ".join(repr(self._train[index].key) for index in indices)
            raise type(error)(f"in a batch of {keys}: {error}") from None
        self._note()
        self._callbacks.step(self._trainer, self.history[-1])

    def _shared_step(self, indices: list[int], part: range) -> str:
        """A step whose gradient is the sum of what each process finds for its part of the batch."""
        while True:
            gradient, statistics = self._core.share(
                [indices[place] for place in part], part.start, len(indices)
            )
            gradient, statistics = self._group.sum(gradient), self._group.sum(statistics)
            report = self._core.apply(gradient, statistics, self.plan.total)
            if report is not None:
                return report

    def _note(self) -> None:
        """Puts what is done into the history, once, also if it was cut off when it was called before."""
        for row in map(json.loads, self._done):
            step = row.pop("step")
            if step > self._recorded():
                self._record({"step": step, "epoch": self.plan.epoch(step), **row})
        self._done.clear()

    def _recorded(self) -> int:
        """The last step that is in the history."""
        steps = (int(row["step"]) for row in reversed(self.history) if "loss" in row)
        return max(self._first, next(steps, 0))

    def _calibrate(self, indices: list[int]) -> None:
        """Finds the temperature; from more items than a batch may have, so that it is that of the whole."""
        self._gather(indices)
        try:
            self._core.calibrate(indices)
        except TrainingError as error:
            keys = ", ".join(repr(self._train[index].key) for index in indices)
            raise TrainingError(f"among {keys}: {error}") from None

    def _gather(self, indices: list[int]) -> None:
        """Has the core hold all of these items."""
        for index in self._core.ensure(indices):
            self._encode(index)

    def _encode(self, index: int) -> None:
        item = self._train[index]
        try:
            images = [prepare(image) for image in item.images]
            self._core.add(index, images, list(item.texts), item.match)
        except (ConfigError, ImageError) as error:
            raise type(error)(f"item {item.key!r}: {error}") from error

    def _validation_is_due(self) -> bool:
        step, done = self._core.steps, self.history.validations
        return (
            self._validation is not None
            and self.plan.validates(step)
            and not (done and done[-1]["step"] == step)
        )

    def _validate(self, items: Items) -> None:
        step, best = self._core.steps, self.history.best
        figures = measure(self._trainer.scorer, items, self._group)
        if best is None or figures["accuracy"] > best["accuracy"]:
            self._best = self._core.deltas()
            if self._folder is not None:  # before the state that tells of them
                self._trainer.save(self._folder.best(step))
        self._record({"step": step, "epoch": self.plan.epoch(step), **figures})
        self._callbacks.validation(self._trainer, self.history[-1])
        self._save()

    def _record(self, row: dict[str, Any]) -> None:
        if self._folder is not None:
            self._folder.append(row)
        self.history.append(row)  # last: what a state tells of is then in the file

    def _save(self) -> None:
        """Writes a state, unless it is there or a step was cut off before it was in the history."""
        core, folder, validations = self._core, self._folder, self.history.validations
        now = (core.steps, len(validations))
        if folder is None or core.steps != self._recorded() or now in self._states:
            return
        epoch, place = divmod(core.steps, self.plan.steps_per_epoch)
        folder.sync()
        core.save(
            str(folder.state(core.steps)), pack(self.settings, {"epoch": epoch, "batch": place}, validations)
        )
        others = [state for state in self._states if state[0] != core.steps]
        self._states = [*others[-1:], now]
        best = [History(validations[:count]).best for _, count in self._states]
        folder.prune({step for step, _ in self._states}, {row["step"] for row in best if row is not None})
