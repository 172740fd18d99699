"""The options that name a dataset and choose among its items."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from discffusion.errors import DatasetOptionError

__all__ = [
    "AllowMissing",
    "Data",
    "LabelledDataset",
    "Rest",
    "Root",
    "Sample",
    "SampleSeed",
    "Skip",
    "Subset",
    "chosen",
    "open_dataset",
    "pairs",
    "training_data",
]

_PANEL = "Data"
#: these read files of the user's own, which need not be split
_OWN = ("table", "hf", "webdataset")
#: as Python spells them
_PYTHON = {"True": True, "False": False, "None": None}

LabelledDataset = Annotated[
    str,
    typer.Argument(
        help="Name of a dataset, such as shapes; table for files of your own.", show_default=False
    ),
]
Root = Annotated[
    str | None,
    typer.Option(help="Folder of the dataset's files; of a table, the file.", rich_help_panel=_PANEL),
]
Subset = Annotated[str | None, typer.Option(help="Subset of the split.", rich_help_panel=_PANEL)]
Data = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Another option of the dataset (DATASET --list names all), such as image=file; may be repeated, also for "
        "several columns.",
        rich_help_panel=_PANEL,
    ),
]
AllowMissing = Annotated[
    bool,
    typer.Option(
        "--allow-missing",
        help="Leave out items whose images are missing, and say so.",
        rich_help_panel=_PANEL,
    ),
]
Sample = Annotated[
    int | None,
    typer.Option(min=1, help="Use this many items, drawn at random.", rich_help_panel=_PANEL),
]
SampleSeed = Annotated[int, typer.Option(min=0, help="Seed of the random draw.", rich_help_panel=_PANEL)]
Rest = Annotated[
    bool,
    typer.Option("--rest", help="Use the items that --sample leaves out instead.", rich_help_panel=_PANEL),
]
Skip = Annotated[int, typer.Option(min=0, help="Skip the first items.", rich_help_panel=_PANEL)]


def pairs(flag: str, given: list[str] | None, several: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The options typed as ``NAME=VALUE``. What is given again becomes a list.

    Args:
        several: options that take a list of names, which commas may separate.
    """
    values: dict[str, Any] = {}
    for text in given or []:
        name, equals, typed = text.partition("=")
        name = name.replace("-", "_")
        if not name or not equals:
            raise typer.BadParameter(f"{flag} is {text!r}; expected NAME=VALUE, such as n=100")
        value = _value(typed, name in several)
        values[name] = [*_listed(values[name]), *_listed(value)] if name in values else value
    return values


def _value(typed: str, may_be_list: bool) -> Any:
    if typed in _PYTHON:
        return _PYTHON[typed]
    try:
        return json.loads(typed, parse_constant=lambda name: name)  # NaN is no number of any option
    except ValueError:
        return [part.strip() for part in typed.split(",")] if may_be_list and "," in typed else typed


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def open_dataset(
    dataset: str,
    root: str | None,
    split: str | None,
    subset: str | None,
    data: list[str] | None,
    allow_missing: bool = False,
) -> Any:
    """The dataset that the options name."""
    from discffusion.data import load_dataset, several

    more = pairs("--data", data, several(dataset))
    if allow_missing:
        more["allow_missing"] = True
    return load_dataset(dataset, root, split, subset, **more)


def training_data(dataset: str, root: str | None, split: str | None, *more: Any) -> Any:
    """The dataset to train on: of its split ``train`` unless another is given, or of files that are not split."""
    if split is not None or dataset not in _OWN:
        return open_dataset(dataset, root, split or "train", *more)
    try:
        return open_dataset(dataset, root, "train", *more)
    except DatasetOptionError:
        return open_dataset(dataset, root, None, *more)


def chosen(items: Any, sample: int | None, seed: int, rest: bool, skip: int) -> Any:
    """A part of a dataset: a random draw or what it leaves out, then without the first."""
    if sample is None and (rest or seed != 0):
        raise typer.BadParameter(f"{'--rest' if rest else '--sample-seed'} goes with --sample")
    if sample is not None and sample > len(items):
        raise typer.BadParameter(f"--sample is {sample}; there are {len(items)} items")
    if sample is not None:
        items = items.split(sample, seed)[1] if rest else items.sample(sample, seed)
    if skip:
        if skip >= len(items):
            raise typer.BadParameter(f"--skip is {skip}; there are {len(items)} items")
        items = items[skip:]
    return items
