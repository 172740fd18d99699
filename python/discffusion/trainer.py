"""Few-shot training of deltas (Algorithm 1): :class:`Trainer`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

from discffusion import _native
from discffusion._arguments import whole_number
from discffusion._processes import joined
from discffusion._progress import Progress, reporting
from discffusion._version import __version__
from discffusion.data.items import Items
from discffusion.deltas import Deltas
from discffusion.errors import ConfigError
from discffusion.scorer import Scorer
from discffusion.training.callback_list import CallbackList
from discffusion.training.card import card
from discffusion.training.folder import Folder
from discffusion.training.history import History
from discffusion.training.options import check, option_table
from discffusion.training.plan import Plan
from discffusion.training.run import Run

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from discffusion._core import Scorer as CoreScorer
    from discffusion._core import Trainer as CoreTrainer
    from discffusion.config import ScoreConfig
    from discffusion.data.item import MatchItem
    from discffusion.training.options import TrainOptions

__all__ = ["Trainer"]


class _Now(NamedTuple):
    """What a trainer shows, replaced as one: a signal's handler may look between any two lines."""

    core: CoreTrainer
    run: Run | None
    sources: dict[str, str]


class Trainer:
    """Trains deltas on the keys and values of cross-attention, so that matching pairs score higher than others.

    The scorer stays as it is: :attr:`scorer` is another one, with the deltas of now, and the one to evaluate. Deltas
    that the given one has are what training starts from.

    Everything but :meth:`fit` may be called at any time, by another thread or a signal's handler too: in the middle
    of a step, the deltas of now are those of the last whole one.

    Args:
        scorer: the model and the score that is trained.
        loss: What training minimises.
        margin: Margin of the triplet loss, in scores divided by the temperature; 0 or more.
        temperature: What scores are divided by before the loss; above 0; default: such that a typical
            difference is 0.2 at the start.
        temperature_schedule: Whether the temperature is the same at all timesteps, or in proportion to the
            typical difference at a timestep's noise level, measured at the start.
        negatives: Which of several negatives count in the triplet loss.
        negative_kinds: What counts as a negative: other images, texts.
        in_batch: Whether images and texts of the other items of a batch are negatives too.
        batch_texts: Texts of other items of a batch that each item's images are compared with too, drawn anew in
            each step; 0 to 10000.
        rank: Rank of the deltas; 1 to 4096; default: dense, of the shape of the weight.
        layers: Which cross-attention layers get deltas; or a list of layers such as down.0.1, mid.0, up.3.2.
        projections: Which projections get deltas.
        modalities: Whose projections get deltas: those of the text, or those of the image too.
        learning_rate: Largest learning rate of AdamW; 0 or more.
        weight_decay: Decoupled weight decay of the deltas; 0 or more.
        schedule: Learning rate after the warm-up.
        warmup_steps: Steps in which the learning rate rises to its largest; 0 or more.
        gradient_clip: Largest norm of the gradient; above 0; default: no limit.
        accumulate: Parts that a batch is split into, to save memory; its gradient stays the same; 1 to 65536.
        timesteps_per_step: Timesteps at which an item is scored in one step; 1 to 1000.
        timesteps: Timesteps to sample during training: those of the score config, all of its noise range, or all
            of the model; auto takes the noise range where the score has fewer than 10 timesteps.
        recompute: Whether blocks are run again in the backward pass instead of keeping their activations, to
            save memory.
        seed: Seed of order, timesteps and noise; 0 or more.

    Raises:
        ConfigError: an option is unknown or out of range; the message names it.
    """

    def __init__(self, scorer: Scorer, **options: Unpack[TrainOptions]) -> None:
        if not isinstance(scorer, Scorer):
            raise ConfigError(f"scorer is {type(scorer).__name__}; expected a Scorer")
        self._options = check(options)
        self._scorer = scorer.with_config()  # so that closing or loading deltas there changes nothing here
        self._now = _Now(self._new(self._scorer._model), None, {})

    def fit(
        self,
        train: Iterable[MatchItem],
        validation: Iterable[MatchItem] | None = None,
        epochs: int = 1,
        batch_size: int = 1,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        resume: bool = True,
        callbacks: Iterable[Any] = (),
        *,
        checkpoint_every: int = 100,
        validate_every: int = 1,
        patience: int | None = None,
        max_steps: int | None = None,
        progress: Progress = None,
        distributed: bool | None = None,
    ) -> History:
        """Trains, starting from the deltas of now with a new optimiser; :attr:`scorer` then has the result.

        With a `checkpoint_dir`, a run that ended in whatever way and is started again in the same way goes on where it
        was and ends with the same deltas as one that was never interrupted; a finished one returns at once.

        Args:
            train: items to learn from. What has a length and an index is read item by item as it is needed.
            validation: items that tell which deltas are best; those are the trainer's in the end.
            epochs: how often every item is seen.
            batch_size: items to a step.
            checkpoint_dir: folder of the run's states, made if it is missing.
            resume: whether to go on from a state in `checkpoint_dir`; False removes what is there.
            callbacks: functions that take every row of the history, or objects with some of
                ``on_step(trainer, row)``, ``on_validation(trainer, row)`` and ``on_end(trainer, history)``.
            checkpoint_every: steps from one state to the next.
            validate_every: epochs from one validation to the next; there is one before the first step too.
            patience: stop after so many validations without a better one.
            max_steps: stop after so many steps, if that is before the last epoch ends.
            progress: True, False, or a function of ``(done, total)``; None shows a bar if somebody watches.
            distributed: whether all processes that ``torchrun`` or ``accelerate launch`` started train together, each
                on a part of every batch; None for yes, if there are several. Every process ends with the same deltas,
                which depend neither on the number of processes, one included, nor on which items each had: an item's
                gradient is computed on its own and added in double precision. Without a launcher, items go through
                the network together, which is faster where they are small, and rounds otherwise. The first process
                alone writes `checkpoint_dir`, calls `callbacks` and shows progress. A run may be taken up by another
                number of processes. On CUDA each needs a device of its own, as ``cuda:$LOCAL_RANK``.

        Returns:
            The history, which is also :attr:`history`.

        Raises:
            ConfigError: an argument is out of range, a text cannot be scored, or the folder holds another run.
            DatasetError: an item has no matching pair, or nothing to compare it with.
            DeltasError: the folder holds states, and none can be read.
            TrainingError: the loss is not finite, or another process is at work in the folder.
            DiscffusionError: the other processes of a distributed run are gone.
        """
        if validation is None and patience is not None:
            raise ConfigError("patience counts validations; give validation items, or leave it out")
        callback_list = CallbackList(callbacks)
        size = whole_number("batch_size", batch_size, 1)
        items, held_out = (
            Items(train, "train"),
            None if validation is None else Items(validation, "validation"),
        )
        plan = Plan(
            items=len(items),
            batch_size=size,
            in_batch=bool(self._options["in_batch"] or self._options["batch_texts"]),
            epochs=whole_number("epochs", epochs, 1),
            max_steps=None if max_steps is None else whole_number("max_steps", max_steps, 1),
            checkpoint_every=whole_number("checkpoint_every", checkpoint_every, 1),
            validate_every=whole_number("validate_every", validate_every, 1),
            patience=None if patience is None else whole_number("patience", patience, 1),
        )
        alone = not (plan.in_batch and plan.items > 1 and size > 1)
        train_data = {
            "items": len(items),
            "digest": items.examine(self._options, alone=alone, check_texts=self._core.check_texts),
        }
        data: dict[str, Any] = {"train": train_data, "validation": None}
        if held_out is not None:
            data["validation"] = {"items": len(held_out), "digest": held_out.examine()}
        start = self._start()
        core = self._new(start)
        settings = {
            "training": {**json.loads(core.info())["options"], "batch_size": size},
            "score": self.config.to_dict(),
            "data": data,
            "start_deltas": "" if checkpoint_dir is None else Deltas(core.deltas()).digest(),
            **self._weights(),
        }
        with ExitStack() as stack:
            group = stack.enter_context(joined(self._scorer.device, distributed, "Trainer.fit"))
            if group.size > 1 and plan.in_batch:
                everything = self._options["in_batch"]
                name, what = ("in_batch", "all items") if everything else ("batch_texts", "items")
                raise ConfigError(
                    f"{name} compares {what} of a batch, which processes cannot share; train in one process, or "
                    f"without {name}"
                )
            folder = None
            if checkpoint_dir is not None and group.rank == 0:
                folder = stack.enter_context(Folder(checkpoint_dir))
            callback_list = callback_list if group.rank == 0 else CallbackList(())
            run = Run(self, core, items, held_out, plan, settings, folder, callback_list, group)
            run.prepare(start, resume, lambda: {str(settings["start_deltas"]), self._first_digest()})
            sources = {"train": items.name, "validation": "" if held_out is None else held_out.name}
            self._now = _Now(core, run, sources)
            run.train(
                stack.enter_context(
                    reporting(progress if group.rank == 0 else False, "step", patience=0.0, leave=True)
                )
            )
        return run.history

    @property
    def scorer(self) -> Scorer:
        """A scorer with the deltas of now. It shares the weights, and further training does not change it.

        A calibrated score keeps the weights that it was trained with. It has no probability before it is calibrated
        anew: ``trainer.scorer.calibrate(items)``.
        """
        return self._scorer._trained(self.deltas)

    @property
    def deltas(self) -> Deltas:
        """The deltas of now, a copy."""
        return Deltas(self._core.deltas(), self.about())

    @property
    def history(self) -> History:
        """What happened in the last call of :meth:`fit`, or happens in this one."""
        return History() if self._run is None else self._run.history

    @property
    def options(self) -> dict[str, Any]:
        """All training options by name."""
        return dict(self._options)

    @property
    def config(self) -> ScoreConfig:
        """The score that is trained."""
        return self._scorer.config

    @property
    def steps(self) -> int:
        """After how many steps of the last :meth:`fit` the deltas of now were reached."""
        return 0 if self._run is None else self._run.step

    @property
    def num_parameters(self) -> int:
        """How many numbers are trained."""
        return int(json.loads(self._core.info())["parameters"])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the deltas of now with options, data and steps; :meth:`Scorer.load_deltas` reads them."""
        self.deltas.save(path)

    def export_lora(
        self, path: str | os.PathLike[str], format: str = "diffusers", rank: int | None = None
    ) -> float:
        """Writes the deltas of now as LoRA for other programs; see :meth:`Deltas.export_lora`."""
        return self.deltas.export_lora(path, format, rank)

    def card(self) -> str:
        """A model card of the deltas of now in Markdown: base model, data, options, figures, how to load them."""
        deltas = self.deltas
        relative_norms = deltas.norms(relative_to=self.scorer)
        return card(self.about(), deltas, relative_norms, self.config.changes(), self.history)

    def about(self) -> dict[str, Any]:
        """What is saved with the deltas, plain data: base model, score, options, data, steps and their validation."""
        description: dict[str, Any] = {
            "base_model": self._scorer.model_id,
            "package": f"discffusion {__version__}",
            "score_config": self.config.to_dict(),
            "training_options": self.options,
            **self._weights(),
        }
        before = self._scorer.deltas
        if before is not None:
            description["before"] = {
                name: before.metadata[name] for name in ("data", "training") if name in before.metadata
            }
        if self._run is None:
            return description
        settings, step = self._run.settings, self.steps
        data = {
            part: {"source": self._now.sources[part], **facts}
            for part, facts in settings["data"].items()
            if facts is not None
        }
        at_step = [row for row in self.history.validations if row["step"] == step]
        training = {
            "steps": step,
            "epoch": self._run.plan.epoch(step),
            "batch_size": settings["training"]["batch_size"],
            "temperature": next(iter(self.history["temperature"]), None),
            "timesteps": self._core.timesteps,
            "validation": at_step[0] if at_step else None,
        }
        return {**description, "data": data, "training": training}

    def __repr__(self) -> str:
        changed = {
            row["name"]: self._options[row["name"]]
            for row in option_table()
            if self._options[row["name"]] != row["default"]
        }
        options = "".join(f", {name}={value!r}" for name, value in changed.items())
        return f"Trainer({self._scorer!r}{options}, {self.num_parameters:,} parameters, {self.steps} steps)"

    @property
    def _core(self) -> CoreTrainer:
        return self._now.core

    @property
    def _run(self) -> Run | None:
        return self._now.run

    def _start(self) -> CoreScorer:
        """What a run starts from: the scorer as it was given, or with the deltas of the run before."""
        return (self._scorer if self._run is None else self.scorer)._model

    def _new(self, scorer: CoreScorer) -> CoreTrainer:
        core: CoreTrainer = _native.core().Trainer.new(scorer, self._options, self.config)
        return core

    def _weights(self) -> dict[str, str]:
        """The digest of the calibration that a calibrated score is trained with."""
        calibration = self._scorer.calibration
        if self.config.method != "calibrated" or calibration is None:
            return {}
        return {"calibration": calibration.digest}

    def _first_digest(self) -> str:
        """Of the deltas that the first run started from: a folder may hold that run, and be asked for again."""
        return Deltas(self._new(self._scorer._model).deltas()).digest()
