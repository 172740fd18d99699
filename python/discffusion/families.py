"""The families of models that can be scored with, as the core's table of facts has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from discffusion import _native

__all__ = ["Family", "families", "family_of"]


@dataclass(frozen=True)
class Family:
    """What is known of a family without any file of a model.

    Attributes:
        name: of its folder in the core.
        about: what it is, for messages.
        pipelines: how the classes of its pipelines (``_class_name`` in ``model_index.json``) begin.
        other_pipelines: those that begin so and are of another family.
        denoiser: the folder of the denoising network.
        parts: every folder but the scheduler's, and the classes that the part may be of.
    """

    name: str
    about: str
    pipelines: tuple[str, ...]
    other_pipelines: tuple[str, ...]
    denoiser: str
    parts: Mapping[str, tuple[str, ...]]

    @property
    def tokenizers(self) -> tuple[str, ...]:
        """The folders with tokenizers."""
        return tuple(part for part in self.parts if part.startswith("tokenizer"))

    @property
    def networks(self) -> tuple[str, ...]:
        """The folders with weights."""
        return tuple(part for part in self.parts if part not in self.tokenizers)

    def matches(self, kind: str) -> bool:
        """Whether pipelines of this class are of the family."""
        return kind.startswith(self.pipelines) and not (
            self.other_pipelines and kind.startswith(self.other_pipelines)
        )


@cache
def families() -> tuple[Family, ...]:
    """All families, the first release's first."""
    return tuple(
        Family(
            name=row["name"],
            about=row["about"],
            pipelines=tuple(row["pipelines"]),
            other_pipelines=tuple(row["other_pipelines"]),
            denoiser=row["denoiser"],
            parts={part: tuple(classes) for part, classes in row["parts"]},
        )
        for row in json.loads(_native.core().families())
    )


def family_of(index: Mapping[str, Any]) -> Family:
    """The family of a ``model_index.json``: by its pipeline's class or, where no family knows that, by its parts."""
    kind = index.get("_class_name")
    if isinstance(kind, str):
        for family in families():
            if family.matches(kind):
                return family
    complete = [family for family in families() if all(part in index for part in family.parts)]
    return max(complete, key=lambda family: len(family.parts), default=families()[0])
