"""Few-shot trainings that tables share: each is done once, and kept with the results."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from discffusion._files import write_text
from discffusion._identity import identity
from discffusion.deltas import Deltas
from discffusion.errors import DeltasError
from discffusion.reproduce.kept import digest_of, items_facts, seconds_in

if TYPE_CHECKING:
    from discffusion.data.lazy import Dataset
    from discffusion.scorer import Scorer

__all__ = ["Recipe", "Trained", "train"]


@dataclass(frozen=True)
class Recipe:
    """How deltas are trained.

    Attributes:
        name: in the report and in the folder's name.
        shots: how much data: ``few`` (5 %), ``extreme`` (0.5 %) or ``captions``.
        options: of :class:`discffusion.Trainer`, where they differ from its defaults.
        variant: the score that is trained: ``attention`` or ``paper``.
        first: the recipe whose deltas it starts from.
    """

    name: str
    shots: str = "few"
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    variant: str = "attention"
    first: Recipe | None = None


FEW = Recipe("few-shot")
FEW_PAPER = Recipe("few-shot, as printed", variant="paper")
EXTREME = Recipe("extreme few-shot", "extreme")
CROSS_ENTROPY = Recipe("cross-entropy", options={"loss": "cross_entropy"})
BINARY = Recipe("binary cross-entropy", options={"loss": "binary_cross_entropy"})
DIFFUSION = Recipe("diffusion loss", options={"loss": "diffusion", "timesteps": "uniform"})
CAPTIONS = Recipe("captions", "captions", {"in_batch": True})
CAPTIONS_DIFFUSION = Recipe(
    "captions, diffusion loss", "captions", {"loss": "diffusion", "timesteps": "uniform"}
)
PRETRAINED = Recipe("few-shot after captions", first=CAPTIONS)


@dataclass(frozen=True)
class Trained:
    """What a training gave.

    Attributes:
        deltas: the deltas.
        rows: its history, one mapping a step.
        seconds: what it took when it was done, all parts of an interrupted one together.
        items, epochs: how many items, and how often each was seen.
    """

    deltas: Deltas
    rows: list[dict[str, Any]]
    seconds: float
    items: int
    epochs: int


def train(
    folder: Path,
    recipe: Recipe,
    scorer: Scorer,
    items: Dataset[Any],
    *,
    seed: int,
    epochs: int,
    batch_size: int,
) -> Trained:
    """Trains, or reads what was trained before in the same way; an interrupted training goes on where it was.

    Args:
        folder: of all trainings.
        scorer: the model with the score that is trained, and the deltas to start from.
        items: what to learn from.
    """
    from discffusion.trainer import Trainer

    options = {**recipe.options, "seed": seed}
    facts = {
        "scorer": identity(scorer.describe()),
        "options": options,
        "data": items_facts(items),
        "items": len(items),
        "epochs": epochs,
        "batch_size": batch_size,
    }
    name = "".join(letter if letter.isalnum() else "-" for letter in recipe.name)
    home = folder / f"{name}-seed{seed}-{digest_of(facts)}"
    deltas, done = home / "deltas.safetensors", home / "training.json"
    if finished := _read(deltas, done, scorer):
        return finished
    home.mkdir(parents=True, exist_ok=True)
    spent = home / "seconds.txt"
    before = seconds_in(spent)
    start = time.perf_counter()
    trainer = Trainer(scorer, **options)
    try:
        history = trainer.fit(
            items, epochs=epochs, batch_size=batch_size, checkpoint_dir=home / "run", progress=False
        )
    finally:
        write_text(spent, f"{before + time.perf_counter() - start:.3f}\n")
    trainer.save(deltas)
    result = Trained(trainer.deltas, history.steps, seconds_in(spent), len(items), epochs)
    record = {**facts, "seed": seed, "seconds": result.seconds, "history": result.rows}
    write_text(
        done, json.dumps(record, indent=1, default=str) + "\n"
    )  # written last: with it the training is done
    return result


def _read(deltas: Path, done: Path, scorer: Scorer) -> Trained | None:
    try:
        record = json.loads(done.read_text(encoding="utf-8"))
        return Trained(
            Deltas.load(deltas, scorer),
            record["history"],
            record["seconds"],
            record["items"],
            record["epochs"],
        )
    except (OSError, ValueError, KeyError, DeltasError):
        return None
