"""Datasets of :class:`MatchItem`, by name and drawn or read lazily."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from discffusion.data.item import MatchItem
from discffusion.errors import DatasetError

__all__ = ["MatchItem", "dataset_names", "load_dataset"]

# name -> "module:function"; the module is imported when the dataset is asked for
_REGISTRY: dict[str, str] = {
    "shapes": "discffusion.data.shapes:load",
}


def dataset_names() -> list[str]:
    """Names that :func:`load_dataset` knows."""
    return sorted(_REGISTRY)


def load_dataset(
    name: str, root: Any = None, split: str = "test", subset: str | None = None, **options: Any
) -> Any:
    """Open a dataset: a lazy sequence of :class:`MatchItem` (``len``, indexing, slicing, iteration).

    Args:
        name: one of :func:`dataset_names`.
        root: folder of the dataset's files; None for a dataset that needs none.
        split: part of the dataset, e.g. ``"train"``, ``"eval"`` or ``"test"``.
        subset: part of the split, or None for all of it.
        options: what the dataset itself offers (``shapes``: ``n``, ``seed``, ``image_size``).
    """
    try:
        target = _REGISTRY[name]
    except (KeyError, TypeError):
        known = ", ".join(dataset_names())
        raise DatasetError(f"unknown dataset {name!r}; there are: {known}") from None
    module, function = target.split(":")
    loader: Callable[..., Any] = getattr(import_module(module), function)
    return loader(root=root, split=split, subset=subset, **options)
