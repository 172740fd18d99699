"""The baselines of the tables, each loaded and tuned once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from discffusion.baselines import check_baseline, load_baseline
from discffusion.data.item import MatchItem
from discffusion.data.lazy import Dataset
from discffusion.errors import DeltasError
from discffusion.reproduce.kept import digest_of, items_facts

if TYPE_CHECKING:
    from discffusion.scorer import Scorer

__all__ = ["CLIPS", "PAPERS_CLIP", "Baselines", "in_batches"]

#: those that read a CLIP; one model serves them all
CLIPS = ("clip", "clip-tuned", "cocoop")
#: the paper's CLIP
PAPERS_CLIP = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"


class Baselines:
    """Loads baselines, and tunes those that are tuned.

    Args:
        models: a folder or hub id by the name of a baseline; ``clip`` stands for all of :data:`CLIPS`.
        scorer: the model that Diffusion Classifier and DiffusionITM share.
        steps: how many timesteps they have.
        stand_in: whether all data are drawn scenes, of which the small CLIP that comes along knows something.
        folder: what was tuned is kept there.
    """

    def __init__(
        self, models: Mapping[str, str], scorer: Scorer, steps: int, stand_in: bool, folder: Path
    ) -> None:
        for name in models:
            check_baseline(name)
        self.models = {"clip": "pocket" if stand_in else PAPERS_CLIP, **models}
        self._scorer, self._steps, self._folder = scorer, steps, folder
        self._loaded: dict[Any, Any] = {}

    def load(self, name: str, seed: int, **options: Any) -> Any:
        """A baseline without training; `options` may hold the deltas of a diffusion model."""
        if name.startswith("diffusion-"):
            scorer = self._scorer.with_deltas(options.pop("deltas", None))
            return load_baseline(name, model=scorer, steps=self._steps, seed=seed, **options)
        key = (name, tuple(sorted(options.items())))
        if key not in self._loaded:
            model = self.models["clip"] if name in CLIPS else self.models[name]
            self._loaded[key] = load_baseline(name, model=model, device=self._scorer.device, **options)
        return self._loaded[key]

    def tuned(self, name: str, items: Dataset[Any], epochs: int, batch_size: int, seed: int) -> Any:
        """A baseline tuned on items; captions are compared with the others of their batch."""
        facts = {"data": items_facts(items), "n": len(items), "epochs": epochs, "seed": seed}
        key = (name, json.dumps(facts, sort_keys=True, default=str), batch_size)
        if key in self._loaded:
            return self._loaded[key]
        made = load_baseline(name, model=self.models["clip"], device=self._scorer.device)
        identity = {**facts, "batch_size": batch_size, "model": made.describe()["fingerprint"]}
        path = self._folder / f"{name}-seed{seed}-{digest_of(identity)}.safetensors"
        if not _read(made, path):
            grouped = in_batches(items, batch_size) if items[0].match.size == 1 else items
            size = 1 if grouped is not items else batch_size
            made.fit(grouped, epochs=epochs, batch_size=size, seed=seed, progress=False)
            path.parent.mkdir(parents=True, exist_ok=True)
            made.save(path)
        self._loaded[key] = made
        return made


def in_batches(items: Dataset[Any], size: int) -> Dataset[int]:
    """Items of several images with all their captions, of items of one of each; equal captions match alike."""
    starts = range(0, len(items) - 1, size)

    def build(start: int) -> MatchItem:
        batch = [items[row] for row in range(start, min(start + size, len(items)))]
        texts = [item.texts[0] for item in batch]
        match = np.array([[one == other for other in texts] for one in texts])
        return MatchItem(f"{batch[0].key}+{len(batch)}", [item.images[0] for item in batch], texts, match)

    return Dataset(items.name, starts, build, about={**items.about, "batches": size})


def _read(baseline: Any, path: Path) -> bool:
    """Whether what was tuned before could be read."""
    if not path.exists():
        return False
    try:
        baseline.load(path)
    except DeltasError:
        return False
    return True
