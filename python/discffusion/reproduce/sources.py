"""The data of each place in the paper's tables: its own datasets from files, or the stand-in ``shapes``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from discffusion.data.lazy import Dataset
from discffusion.errors import ConfigError
from discffusion.reproduce.files import Files
from discffusion.reproduce.scale import Scale
from discffusion.reproduce.stand_in import Shapes

__all__ = ["BENCHMARKS", "Benchmark", "Source", "sources"]


@dataclass(frozen=True)
class Benchmark:
    """What the paper measures or trains on: its name there, how much of it, and the datasets that can stand there."""

    name: str
    paper: str
    datasets: tuple[str, ...]


BENCHMARKS: dict[str, Benchmark] = {
    place.name: place
    for place in (
        Benchmark("composition", "Compositional Visual Genome (5400 rows)", ("comvg",)),
        Benchmark("referring", "RefCOCOg (10 texts an image)", ("refcocog",)),
        Benchmark("vqa", "VQAv2 (question with each candidate answer)", ("vqav2", "vqa_csv")),
        Benchmark("winoground", "Winoground (400 items)", ("winoground",)),
        Benchmark("checklist", "VL-CheckList", ("vl_checklist",)),
        Benchmark("captions", "MS-COCO captions", ("coco_captions",)),
    )
}


class Source(Protocol):
    """Where the items of a place come from."""

    name: str

    def test(self) -> Dataset[Any]:
        """What is measured on."""

    def train(self, recipe: str, seed: int) -> Dataset[Any]:
        """What is trained on: 5 % for ``few``, 0.5 % for ``extreme``, all for ``captions``."""

    def masked(self, both: bool) -> Dataset[Any]:
        """What is measured on, with the object of the text painted over; `both`: the thing it is related to as well."""

    def notes(self) -> list[str]:
        """How it differs from what the paper had, a sentence each."""

    def remarks(self) -> list[str]:
        """What else belongs beside the values."""


def sources(
    data: Sequence[tuple[str, str | None]], scale: Scale, size: int, allow_missing: bool = False
) -> dict[str, Source]:
    """By place, the datasets that were asked for.

    Args:
        data: names of datasets with the folders of their files; ``shapes`` needs none and fills every place that no
            other one fills.
        scale: how many items.
        size: side of the images that ``shapes`` draws, in pixels.
        allow_missing: leave items out whose images are missing, and say so.

    Raises:
        ConfigError: a dataset has no place in the paper's tables, or two share one.
        DatasetError: its files are missing or malformed.
    """
    by_place: dict[str, Source] = {}
    for name, root in data:
        if name == "shapes":
            continue
        place = next((place for place in BENCHMARKS.values() if name in place.datasets), None)
        if place is None:
            names = [each for place in BENCHMARKS.values() for each in place.datasets]
            raise ConfigError(
                f"the paper's tables have no place for the dataset {name!r}; they have for: shapes, {', '.join(names)}"
            )
        if place.name in by_place:
            raise ConfigError(
                f"{name} and {by_place[place.name].name} stand in the same place; give one of them"
            )
        by_place[place.name] = Files(place.name, name, root, scale, allow_missing)
    if any(name == "shapes" for name, _ in data):
        for place_name in BENCHMARKS:
            by_place.setdefault(place_name, Shapes(place_name, scale, size))
    return by_place
