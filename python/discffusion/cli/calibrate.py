"""``discffusion calibrate``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
    training_data,
)
from discffusion.cli.options import Deltas, Setup
from discffusion.cli.results import about, as_json
from discffusion.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from discffusion.calibration import Calibration
    from discffusion.scorer import Scorer

_DATA = "Data"
_FIT = "Fit"
#: of map
_KINDS = ("cosine", "logits", "probs")


def calibrate(
    setup: Setup,
    dataset: LabelledDataset,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File for the calibration.", show_default=False)
    ],
    root: Root = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Split to fit to.", show_default="train, where files are split", rich_help_panel=_DATA
        ),
    ] = None,
    subset: Subset = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Fit to the first items only.", rich_help_panel=_DATA)
    ] = None,
    sample: Sample = None,
    sample_seed: SampleSeed = 0,
    rest: Rest = False,
    skip: Skip = 0,
    data: Data = None,
    allow_missing: AllowMissing = False,
    over: Annotated[
        str | None,
        typer.Option(
            help="What weights may differ by: some of steps, layers, heads, maps, error, prior, separated by commas.",
            show_default="all but prior",
            rich_help_panel=_FIT,
        ),
    ] = None,
    maps: Annotated[
        str | None,
        typer.Option(
            help="Kinds of map to choose from: some of cosine, logits and probs, separated by commas.",
            show_default="cosine,logits",
            rich_help_panel=_FIT,
        ),
    ] = None,
    calibrate_seed: Annotated[
        int | None,
        typer.Option(
            min=0, help="Seed of the division of items in parts.", show_default="--seed", rich_help_panel=_FIT
        ),
    ] = None,
    deltas: Deltas = None,
) -> None:
    """Fit the score to labelled items: what each timestep, layer and head counts, and the probability of a match.

    Prints what that is worth on items that were not fitted to, and writes one file, which the commands that score take
    as `--calibration`. No weight of the model changes. Every item needs a matching pair, and another of its image or
    its text that does not match. `--seed` is the seed of noise and of the division of items, unless `--calibrate-seed`
    is given.

    Example: `discffusion calibrate shapes --limit 270 -o calibration.safetensors`

    Example: `discffusion calibrate table --root own.csv --data negative_texts=foil -m MODEL -o calibration.safetensors`
    """
    from discffusion.calibration.observations import MAPS
    from discffusion.calibration.weights import ALL, OVER

    names = OVER if over is None else _listed("--over", over, ALL)
    kinds = MAPS if maps is None else _listed("--maps", maps, _KINDS)
    items = chosen(
        training_data(dataset, root, split, subset, data, allow_missing), sample, sample_seed, rest, skip
    )[:limit]
    file = _prepared(output)  # before anything is computed
    seed = setup.fields.get("seed", 0) if calibrate_seed is None else calibrate_seed
    with setup.scorer(deltas) as loaded, loaded.with_calibration(None) as scorer:
        calibration = scorer.calibrate(items, over=names, maps=kinds, seed=seed)
        calibration.save(file)
        facts = _facts(scorer, setup.revision, calibration, output)
    typer.echo(as_json(facts) if setup.json else f"{calibration}\n\n- {output} has the calibration")


def _listed(flag: str, text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """The names that commas separate."""
    names = tuple(part.strip() for part in text.split(","))
    if not set(names) <= set(known) or len(set(names)) < len(names):
        raise typer.BadParameter(
            f"{flag} is {text!r}; expected some of {', '.join(known)}, separated by commas"
        )
    return names


def _prepared(output: Path) -> Path:
    """The file to write to, in a folder that is there.

    Raises:
        OutputError: it cannot be written, or holds something else than a calibration.
    """
    from discffusion.calibration import Calibration

    file = output.expanduser()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        taken = file.exists()
    except OSError as error:
        raise OutputError(f"output {str(output)!r} cannot be used: {error.strerror or error}") from None
    if file.is_dir() or not os.access(file.parent, os.W_OK):
        raise OutputError(f"output {str(output)!r} cannot be written: expected a file in a folder of yours")
    if taken:
        try:
            Calibration.load(file)
        except ConfigError:
            raise OutputError(
                f"{output} holds no calibration and is not overwritten; give another output"
            ) from None
    return file


def _facts(scorer: Scorer, revision: str | None, calibration: Calibration, output: Path) -> dict[str, Any]:
    """The scorer before, and what came out."""
    return {
        **about(scorer, revision),
        "calibration": calibration.digest,
        "path": str(output),
        "calibrated": calibration.config.to_dict(),
        "slope": calibration.slope,
        "offset": calibration.offset,
        "report": dict(calibration.report),
    }
