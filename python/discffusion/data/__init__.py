"""Datasets of :class:`MatchItem`, by name, drawn or read lazily from files as their publishers ship them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from discffusion._registry import Entry, Registry
from discffusion.data.item import MatchItem
from discffusion.data.lazy import Dataset
from discffusion.errors import DatasetOptionError, InstallationError

__all__ = [
    "Dataset",
    "MatchItem",
    "dataset_names",
    "describe_datasets",
    "describe_options",
    "load_dataset",
]


_OWN = {
    "shapes": Entry("discffusion.data.shapes:load", "drawn scenes of two coloured shapes; needs no files"),
    "comvg": Entry("discffusion.data.comvg:load", "Compositional Visual Genome: 1 text, 2 images"),
    "refcocog": Entry("discffusion.data.refcocog:load", "RefCOCOg: 1 image, 10 texts (umd or google split)"),
    "vqav2": Entry("discffusion.data.vqav2:load", "VQAv2: 1 image, question with candidate answers"),
    "vqa_csv": Entry(
        "discffusion.data.vqa_csv:load", "the released VQA lists of Discffusion: 1 image, 10 texts"
    ),
    "winoground": Entry("discffusion.data.winoground:load", "Winoground: 2 images, 2 texts"),
    "vl_checklist": Entry(
        "discffusion.data.vl_checklist:load", "VL-CheckList: 1 image, 2 texts, a tree of kinds"
    ),
    "sugarcrepe": Entry("discffusion.data.sugarcrepe:load", "SugarCrepe: 1 image, 2 texts"),
    "aro": Entry("discffusion.data.aro:load", "ARO relation, attribution and order: 1 image, 2 to 5 texts"),
    "coco_captions": Entry(
        "discffusion.data.coco_captions:load", "COCO captions: retrieval, or pre-training"
    ),
    "webdataset": Entry("discffusion.data.archives.webdataset:load", "tar shards of images with captions"),
    "table": Entry(
        "discffusion.data.tables.table:load", "csv, tsv, json, jsonl or parquet with columns you name"
    ),
    "hf": Entry(
        "discffusion.data.tables.hf:load", "a dataset of the library datasets, with columns you name"
    ),
}
_DATASETS: Registry[Callable[..., Any]] = Registry(
    "dataset",
    dict(sorted(_OWN.items())),
    group="discffusion.datasets",
    error=DatasetOptionError,
    check=lambda _, loader: None if callable(loader) else f"{loader!r}; expected a function that opens it",
)


def dataset_names() -> list[str]:
    """Names that :func:`load_dataset` knows: this package's own, then those that other packages add."""
    return list(_DATASETS)


def describe_datasets() -> dict[str, str]:
    """One line about every dataset, by name."""
    return _DATASETS.describe()


def describe_options(name: str) -> dict[str, str]:
    """What the dataset of this name takes besides root, split and subset: a sentence about each option.

    Raises:
        DatasetOptionError: there is no such dataset.
    """
    loader = _DATASETS.load(name)
    said = _arguments(inspect.getdoc(loader) or "")
    names = [option for option in inspect.signature(loader).parameters if option not in _COMMON]
    return {option: re.sub(r":\w+:`~?([^`]*)`", r"\1", said.get(option, "")).rstrip(".") for option in names}


def known_options() -> dict[str, dict[str, str]]:
    """:func:`describe_options` of every dataset but those of other packages that cannot be loaded."""
    known = {}
    for name in _DATASETS:
        try:
            known[name] = describe_options(name)
        except InstallationError:
            continue
    return known


def several(name: str) -> frozenset[str]:
    """Options of the dataset of this name that take a list of names, such as columns."""
    parameters = inspect.signature(_DATASETS.load(name)).parameters.values()
    return frozenset(one.name for one in parameters if "Sequence[str]" in str(one.annotation))


def load_dataset(
    name: str, root: Any = None, split: str | None = None, subset: str | None = None, **options: Any
) -> Any:
    """Open a dataset: a lazy sequence of :class:`MatchItem` (``len``, indexing, slicing, iteration).

    Parts of it are as lazy, and have its name and metrics: ``items[10:20]``, ``items[[3, 1]]``,
    ``items.sample(n, seed=0)``, ``first, rest = items.split(n, seed=0)``. Items that lack a text are left out, and the
    report counts them.

    Args:
        name: one of :func:`dataset_names`.
        root: folder of the dataset's files; None for a dataset that needs none.
        split: part of the dataset, e.g. ``"train"``, ``"eval"`` or ``"test"``; None for the one that is evaluated.
        subset: part of the split, or None for all of it.
        options: what the dataset itself offers (``shapes``: ``n``, ``seed``, ``image_size``); those read from files
            take ``allow_missing``: whether items whose images are missing are left out instead of being an error.

    Raises:
        DatasetOptionError: the name, split, subset or an option is unknown or out of range.
        DatasetError: files are missing or malformed.
        InstallationError: the dataset is of another package and cannot be loaded.
    """
    loader = _DATASETS.load(name)
    chosen = {key: value for key, value in (("split", split), ("subset", subset)) if value is not None}
    try:
        return loader(root=root, **chosen, **options)
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        known = ", ".join(one for one in inspect.signature(loader).parameters if one != "root")
        raise DatasetOptionError(
            f"{name}: {str(error).partition('() ')[2] or error}; its options are {known}"
        ) from None


_COMMON = ("root", "split", "subset")


def _arguments(text: str) -> dict[str, str]:
    """The entries under ``Args:`` of a docstring, by name; several names may share one."""
    section = re.search(r"^Args:\n((?:    .*\n?|\n)*)", text, re.MULTILINE)
    entries = re.split(r"^    (?=\S)", section[1] if section else "", flags=re.MULTILINE)
    said: dict[str, str] = {}
    for entry in entries:
        names, colon, about = entry.partition(":")
        if colon:
            said |= {name.strip(): " ".join(about.split()) for name in names.split(",")}
    return said
