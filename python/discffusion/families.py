"""The families of models that can be scored with, as the core's table of facts has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

from discffusion import _native

__all__ = ["Family", "Found", "families", "family_of"]


@dataclass(frozen=True)
class Family:
    """What is known of a family without any file of a model.

    Attributes:
        name: of its folder in the core.
        about: what it is, for messages.
        denoiser: the folder of the denoising network.
        parts: every folder but the scheduler's, and the classes that the part may be of.
        optional: the parts that a model may lack.
    """

    name: str
    about: str
    denoiser: str
    parts: Mapping[str, tuple[str, ...]]
    optional: frozenset[str]

    def among(self, index: Mapping[str, Any]) -> Family:
        """The family without the optional parts that a ``model_index.json`` leaves out or has nulls for."""
        absent = {part for part in self.optional if not any(index.get(part) or ())}
        return replace(self, parts={part: kind for part, kind in self.parts.items() if part not in absent})

    @property
    def tokenizers(self) -> tuple[str, ...]:
        """The folders with tokenizers."""
        return tuple(part for part in self.parts if part.startswith("tokenizer"))

    @property
    def networks(self) -> tuple[str, ...]:
        """The folders with weights."""
        return tuple(part for part in self.parts if part not in self.tokenizers)


class Found(NamedTuple):
    """What a ``model_index.json`` says of the family."""

    family: Family
    #: whether a family knows the pipeline's class; without it, the family is found by the parts that are listed
    by_class: bool
    #: why a model of the family is not supported, or None
    refusal: str | None


@cache
def families() -> tuple[Family, ...]:
    """All families, the first release's first."""
    return tuple(
        Family(
            name=row["name"],
            about=row["about"],
            denoiser=row["denoiser"],
            parts={part: tuple(classes) for part, classes in row["parts"]},
            optional=frozenset(row["optional_parts"]),
        )
        for row in json.loads(_native.core().families())
    )


def family_of(index: Mapping[str, Any]) -> Found:
    """The family of a ``model_index.json``, by the core's rule.

    Raises:
        CheckpointError: a field has another type than the core reads.
    """
    found = json.loads(_native.core().family_of(json.dumps(index)))
    family = next(family for family in families() if family.name == found["name"])
    return Found(family, found["by_class"], found["refusal"])
