"""What faults strike: work with the pocket model, each piece of which ends with numbers to compare."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.python.shards.made_up import rows, tars

from discffusion import Deltas, Scorer, Trainer, evaluate, load_dataset, score_shards

Found = list[NDArray[Any]]
Stage = Callable[[Scorer, Path], Found]

TEXT = "a red circle left of a blue square"


def scorer() -> Scorer:
    return Scorer(device="cpu", noise_levels=[0.6, 0.4], batch_size=4)


def prepare(place: Path) -> None:
    """What there is before any work begins."""
    tars(place / "in", 4, 2)


def _pairs(number: int = 3) -> tuple[list[Any], list[str]]:
    items = list(load_dataset("shapes", split="eval", n=number))
    return [item.images[0] for item in items], [item.texts[0] for item in items]


def _arrays(deltas: Deltas) -> Found:
    return [values for _, values in sorted(deltas._core.arrays().items())]


def _load(_: Scorer, place: Path) -> Found:
    with scorer() as own:
        return _matrix(own, place)


def _matrix(scorer: Scorer, _: Path) -> Found:
    return [scorer.matrix(*_pairs(), progress=False)]


def _rank(scorer: Scorer, _: Path) -> Found:
    return [np.array(scorer.rank(_pairs()[0], TEXT))]


def _observe(scorer: Scorer, _: Path) -> Found:
    seen = scorer.observe(_pairs()[0][0], TEXT, timestep=500)
    return [np.asarray(seen.prediction), *(np.asarray(found) for found in seen.maps.values())]


def _explain(scorer: Scorer, _: Path) -> Found:
    found = scorer.explain(_pairs()[0][0], TEXT)
    return [np.array(found.score), np.asarray(found.map_of("red circle"))]


def _generate(scorer: Scorer, _: Path) -> Found:
    return [np.asarray(scorer.generate(TEXT, steps=4, seed=3, progress=False))]


def _fit(scorer: Scorer, place: Path) -> Found:
    items = load_dataset("shapes", split="train", n=4)
    trainer = Trainer(scorer, rank=2, learning_rate=1e-2)
    history = trainer.fit(
        items,
        items[:1],
        epochs=3,
        batch_size=2,
        checkpoint_dir=place / "run",
        checkpoint_every=1,
        progress=False,
    )
    losses = [row["loss"] for row in history.steps]
    return [np.array(losses), *_arrays(trainer.deltas)]


def _evaluate(scorer: Scorer, place: Path, suffix: str = "jsonl") -> Found:
    items = load_dataset("shapes", split="eval", n=6)
    report = evaluate(scorer, items, output=place / f"rows.{suffix}", batch_items=1, progress=False)
    return [record.scores for record in report.records]


def _score_shards(scorer: Scorer, place: Path) -> Found:
    score_shards(place / "in", place / "out", scorer, progress=False)
    return [np.array([row["score"] for row in rows(place / "out")])]


def _save_deltas(scorer: Scorer, place: Path) -> Found:
    Trainer(scorer, rank=2).save(place / "deltas.safetensors")
    other = scorer.with_config()
    other.load_deltas(place / "deltas.safetensors")
    assert other.deltas is not None
    return _arrays(other.deltas)


def _save_explanation(scorer: Scorer, place: Path) -> Found:
    scorer.explain(_pairs()[0][0], TEXT).save(place / "explained")
    with np.load(place / "explained" / "explanation.npz") as file:
        return [file[name] for name in file.files]


def _many_pairs(scorer: Scorer, _: Path) -> Found:
    return [scorer.matrix(*_pairs(12), progress=False)]


def _many_pictures(scorer: Scorer, _: Path) -> Found:
    return [np.asarray(picture) for picture in scorer.generate(TEXT, steps=2, num_images=24, progress=False)]


#: those that keep files, and go on with what they find
FILES: dict[str, Stage] = {
    "fit": _fit,
    "evaluate": _evaluate,
    "evaluate to parquet": lambda scorer, place: _evaluate(scorer, place, "parquet"),
    "score_shards": _score_shards,
    "save deltas": _save_deltas,
    "save an explanation": _save_explanation,
}
STAGES: dict[str, Stage] = {
    "load": _load,
    "matrix": _matrix,
    "rank": _rank,
    "observe": _observe,
    "explain": _explain,
    "generate": _generate,
    **FILES,
}
#: those that take more memory than there may be
LARGE: dict[str, Stage] = {
    "load": _load,
    "many pairs": _many_pairs,
    "many pictures": _many_pictures,
    "explain": _explain,
    "fit": _fit,
}


def same(found: Found, expected: Found, rtol: float = 0.0) -> bool:
    """Whether numbers are the same, to the last bit or within a share of the largest."""
    return len(found) == len(expected) and all(
        a.shape == b.shape
        and bool((np.abs(a - b.astype(float)) <= rtol * np.abs(b.astype(float)).max()).all())
        for a, b in zip(found, expected, strict=True)
    )
