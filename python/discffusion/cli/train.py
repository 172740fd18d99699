"""``discffusion train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from discffusion._workers import rank
from discffusion.cli.data import (
    AllowMissing,
    Data,
    LabelledDataset,
    Rest,
    Root,
    Sample,
    SampleSeed,
    Skip,
    Subset,
    chosen,
    open_dataset,
    training_data,
)
from discffusion.cli.options import Setup
from discffusion.cli.results import about, as_json

if TYPE_CHECKING:
    from discffusion.trainer import Trainer
    from discffusion.training.history import History

_DATA = "Data"
_RUN = "Run"


def train(
    setup: Setup,
    dataset: LabelledDataset,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Folder for the deltas, the model card and the states.", show_default=False
        ),
    ],
    root: Root = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Split to train on.", show_default="train, where files are split", rich_help_panel=_DATA
        ),
    ] = None,
    subset: Subset = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Train on the first items only.", rich_help_panel=_DATA)
    ] = None,
    sample: Sample = None,
    sample_seed: SampleSeed = 0,
    rest: Rest = False,
    skip: Skip = 0,
    data: Data = None,
    allow_missing: AllowMissing = False,
    validation_split: Annotated[
        str | None,
        typer.Option(help="Split to validate with; the deltas best there are kept.", rich_help_panel=_DATA),
    ] = None,
    validation_root: Annotated[
        str | None,
        typer.Option(
            help="Files to validate with, where they are not below --root; of a table, the file.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    validation_limit: Annotated[
        int | None, typer.Option(min=1, help="Validate with the first items only.", rich_help_panel=_DATA)
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="File of deltas to start from.", rich_help_panel=_RUN)
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Number of epochs.", rich_help_panel=_RUN)] = 1,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Items per training step.", rich_help_panel=_RUN)
    ] = 1,
    max_steps: Annotated[
        int | None, typer.Option(min=1, help="Stop after this many steps.", rich_help_panel=_RUN)
    ] = None,
    validate_every: Annotated[
        int, typer.Option(min=1, help="Epochs between validations.", rich_help_panel=_RUN)
    ] = 1,
    patience: Annotated[
        int | None,
        typer.Option(
            min=1, help="Stop after this many validations without improvement.", rich_help_panel=_RUN
        ),
    ] = None,
    checkpoint_every: Annotated[
        int, typer.Option(min=1, help="Steps between checkpoints.", rich_help_panel=_RUN)
    ] = 100,
    resume: Annotated[
        bool,
        typer.Option("--resume/--no-resume", help="Resume from the last checkpoint.", rich_help_panel=_RUN),
    ] = True,
    tensorboard: Annotated[
        str | None, typer.Option(help="Folder for TensorBoard logs.", rich_help_panel=_RUN)
    ] = None,
    trackio: Annotated[
        str | None, typer.Option(help="Project of trackio to log to.", rich_help_panel=_RUN)
    ] = None,
) -> None:
    """Train deltas on a dataset: few-shot learning.

    Writes `deltas.safetensors`, `README.md` (a model card), `history.csv` and `checkpoints` to the output folder. The
    same command goes on with a run that was interrupted. `--seed` is the seed of noise and of training, unless
    `--train-seed` is given.

    Example: `discffusion train shapes --limit 270 --epochs 16 --output few-shot --validation-split eval`

    Example: `discffusion train table --root own.csv --data negative_texts=foil -m MODEL --output few-shot`
    """
    options = _options(setup)
    validates = validation_split is not None or validation_root is not None
    if not validates and (patience is not None or validation_limit is not None):
        given = "--patience counts" if patience is not None else "--validation-limit is of"
        raise typer.BadParameter(f"{given} validations: give --validation-split or --validation-root")
    more = (subset, data, allow_missing)
    items = chosen(training_data(dataset, root, split, *more), sample, sample_seed, rest, skip)[:limit]
    held_out = None
    if validates:
        held_out = open_dataset(
            dataset, root if validation_root is None else validation_root, validation_split, *more
        )[:validation_limit]
    callbacks = _callbacks(tensorboard, trackio, output)
    with setup.scorer(init) as scorer:
        from discffusion.trainer import Trainer

        with setup.speaking_of("training"):
            trainer = Trainer(scorer, **options)
        history = trainer.fit(
            items,
            held_out,
            epochs,
            batch_size,
            output / "checkpoints",
            resume,
            callbacks,
            checkpoint_every=checkpoint_every,
            validate_every=validate_every,
            patience=patience,
            max_steps=max_steps,
        )
        if rank().number > 0:
            return  # the first of several processes that train together says and writes what came out
        _write(trainer, history, output)
        facts = {**about(scorer, setup.revision), **_result(trainer, history, output)}
    if setup.json:
        typer.echo(as_json(facts))
    else:
        for name in ("deltas", "steps", "loss", "accuracy"):
            if facts[name] is not None:
                typer.echo(f"{name}\t{facts[name]}")


def _options(setup: Setup) -> dict[str, Any]:
    """The training options, checked before anything is loaded."""
    from discffusion.training.options import check

    given = dict(setup.training)
    if "seed" in setup.fields:
        given.setdefault("seed", setup.fields["seed"])
    with setup.speaking_of("training"):
        return check(given)


def _callbacks(tensorboard: str | None, trackio: str | None, output: Path) -> list[Any]:
    from discffusion.callbacks import TensorBoardCallback, TrackioCallback

    callbacks: list[Any] = []
    if tensorboard is not None:
        callbacks.append(TensorBoardCallback(tensorboard))
    if trackio is not None:
        callbacks.append(TrackioCallback(trackio, name=output.resolve().name))
    return callbacks


def _write(trainer: Trainer, history: History, output: Path) -> None:
    from discffusion._files import write_text

    for leftover in output.glob(".*.tmp"):  # of a run that was killed while it wrote these
        leftover.unlink(missing_ok=True)
    trainer.save(output / "deltas.safetensors")
    history.to_csv(output / "history.csv")
    write_text(output / "README.md", trainer.card())


def _result(trainer: Trainer, history: History, output: Path) -> dict[str, Any]:
    steps, at_step = history.steps, [row for row in history.validations if row["step"] == trainer.steps]
    return {
        **{
            name: value
            for name, value in trainer.about().items()
            if name in ("data", "training", "training_options")
        },
        "deltas": str(output / "deltas.safetensors"),
        "steps": trainer.steps,
        "loss": steps[-1]["loss"] if steps else None,
        "accuracy": at_step[0]["accuracy"] if at_step else None,
        "validations": history.validations,
    }
