"""One checkpoint to be trained both ways, with the items, the deltas and the comparison of gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.parity.case import PLAIN, RESOLUTION, TEXTS, config, load, picture
from tests.parity.training import Item, Result, Trainable

from discffusion import _native
from discffusion.bench.reference.joint import of_folder
from discffusion.bench.reference.model import Reference

_core = _native.core()

Arrays = dict[str, np.ndarray]
Raw = tuple[list[np.ndarray], list[str], np.ndarray]
# Of the largest entry of a gradient; of a loss; of a score.
GRADIENT_TOLERANCE, LOSS_TOLERANCE, SCORE_TOLERANCE = 1e-4, 1e-5, 1e-5
# Little noise: the gradients of two images that differ in nothing but what noise hides nearly cancel, and float32
# has no digits left for what remains.
TIMESTEPS = (261, 101, 21)
MATCHES = (
    np.eye(2, dtype=bool),
    np.array([[False, True, False]]),
    np.array([[True, True], [False, True], [False, False]]),
)


@dataclass
class TrainingCase:
    """A tiny checkpoint with three items: two of each, one image with three texts, several positives."""

    folder: Path

    @cached_property
    def scorer(self) -> Any:
        return load(self.folder)

    @cached_property
    def reference(self) -> Reference:
        return of_folder(self.folder)

    @cached_property
    def model(self) -> Trainable:
        return Trainable(self.reference)

    more: tuple[Raw, ...] = ()

    def with_item(self, images: list[np.ndarray], texts: list[str], match: np.ndarray) -> TrainingCase:
        """The same with one more item."""
        other = TrainingCase(self.folder, (*self.more, (images, texts, match)))
        other.__dict__ |= {name: getattr(self, name) for name in ("scorer", "reference", "model")}
        return other

    @cached_property
    def raw(self) -> list[Raw]:
        """Images, texts and matches of the items."""
        one, two, dark = picture(1), 255 - picture(2), picture(3) // 4
        texts = [*TEXTS, "a dog", "a red bird on a snowy branch"]
        return [
            ([one, dark], texts[:2], MATCHES[0]),
            ([two], texts[1:], MATCHES[1]),
            ([dark, two, one], [texts[3], texts[0]], MATCHES[2]),
            *self.more,
        ]

    @cached_property
    def items(self) -> list[Item]:
        def latents(images: Sequence[np.ndarray]) -> torch.Tensor:
            return torch.stack([self.reference.latent(image, RESOLUTION) for image in images])

        return [Item(latents(images), tuple(texts), match, ~match) for images, texts, match in self.raw]

    def trainer(
        self,
        options: Mapping[str, Any],
        fields: Mapping[str, Any],
        seed: int | None = 0,
        matches: Mapping[int, np.ndarray] | None = None,
    ) -> Any:
        """The core's trainer with the items, from deltas drawn from `seed` (None: from its own start).

        `matches` are put in place of those of some items.
        """
        score = {"resolution": RESOLUTION, "timesteps": list(TIMESTEPS), **fields}
        trainer = _core.Trainer.new(
            self.scorer,
            {"margin": 5.0, "temperature": 1.0, "timesteps": "config", **options},
            config(**score),
        )
        for index, (images, texts, match) in enumerate(self.raw):
            trainer.add(index, images, texts, (matches or {}).get(index, match))
        if seed is not None:
            trainer.set_deltas(self.deltas(drawn(trainer.deltas().arrays(), seed)))
        return trainer

    def deltas(self, arrays: Arrays, **metadata: str) -> Any:
        return _core.Deltas.from_arrays(arrays, metadata, self.scorer, True)

    def expected(
        self,
        found: Mapping[str, Any],
        arrays: Arrays,
        indices: Sequence[int],
        options: Mapping[str, Any],
        fields: Mapping[str, Any],
    ) -> Result:
        """The reference's word on a step, at the timesteps and with the noise that the core says it used."""
        names = ("loss", "temperature", "negative_kinds", "margin", "negatives")
        kept = {name: value for name, value in {"margin": 5.0, **options}.items() if name in names}
        if options.get("loss", "triplet") != "triplet":
            kept = {name: value for name, value in kept.items() if name not in ("margin", "negatives")}
        items = [self.items[index] for index in indices]
        if options.get("in_batch"):
            items = [Item.joined(items)]
        timesteps, noise = found["timesteps"][: len(items)], found["noise"][: len(items)]
        return self.model.gradients(items, timesteps, noise, arrays, kept, {**PLAIN, **fields})


def drawn(arrays: Arrays, seed: int) -> Arrays:
    """Deltas of a few percent of the weights, in place of `arrays`."""
    draw = np.random.default_rng(seed)

    def one(name: str, shape: tuple[int, ...]) -> np.ndarray:
        size = {"delta": 0.2 / shape[-1] ** 0.5, "down": 1 / shape[-1] ** 0.5, "up": 0.1}
        return (size[name.rpartition(".")[2]] * draw.standard_normal(shape)).astype(np.float32)

    return {name: one(name, arrays[name].shape) for name in sorted(arrays)}


def errors(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> dict[str, float]:
    """max |a − b| / max |b| of every array; where b is all zeros, a has to be."""
    assert sorted(ours) == sorted(theirs)
    found = {}
    for name, b in theirs.items():
        a = np.asarray(ours[name], np.float64)
        assert a.shape == b.shape, name
        difference, size = np.abs(a - b).max(), np.abs(b).max()
        found[name] = float(difference / size) if size else float(np.inf if difference else 0)
    return found


def assert_close(
    ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], tolerance: float = GRADIENT_TOLERANCE
) -> None:
    wrong = {name: error for name, error in errors(ours, theirs).items() if not error <= tolerance}
    assert not wrong, wrong
