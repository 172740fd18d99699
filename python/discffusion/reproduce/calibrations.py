"""Calibrations that tables share, on the items of few-shot trainings: each is fitted once, and kept."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from discffusion._files import write_text
from discffusion._identity import identity
from discffusion._version import __version__
from discffusion.calibration import Calibration
from discffusion.calibration.weights import OVER
from discffusion.errors import ConfigError
from discffusion.reproduce.kept import digest_of, items_facts, seconds_in

if TYPE_CHECKING:
    from discffusion.data.lazy import Dataset
    from discffusion.scorer import Scorer

__all__ = ["ATTENTION", "EVERYTHING", "STEPS", "Calibrated", "CalibrationRecipe", "calibrate"]


@dataclass(frozen=True)
class CalibrationRecipe:
    """How a score is calibrated.

    Attributes:
        name: in the report and in the file's name.
        over: what weights may differ by, see :meth:`discffusion.Scorer.calibrate`.
        shots: on how much data, as of a training: ``few`` (5 %) or ``extreme`` (0.5 %).
    """

    name: str
    over: tuple[str, ...]
    shots: str = "few"


#: without the denoising error, as the paper's score is
ATTENTION = CalibrationRecipe("calibrated", tuple(name for name in OVER if name != "error"))
EVERYTHING = CalibrationRecipe("calibrated with the denoising error", OVER)
STEPS = CalibrationRecipe("timesteps calibrated", ("steps",))


@dataclass(frozen=True)
class Calibrated:
    """What a calibration gave.

    Attributes:
        calibration: weights and probabilities, and what they are worth.
        seconds: what it took when it was made.
        items: how many items were given.
    """

    calibration: Calibration
    seconds: float
    items: int


def calibrate(
    folder: Path, recipe: CalibrationRecipe, scorer: Scorer, items: Dataset[Any], *, seed: int
) -> Calibrated:
    """Calibrates, or reads what was fitted before in the same way: to this scorer with its deltas, by this release.

    Args:
        folder: of all calibrations.
        scorer: the score before.
        items: labelled items.
        seed: of the division of items in parts.

    Raises:
        ConfigError: there are too few items.
    """
    facts = {
        "scorer": identity(scorer.describe()),
        "over": sorted(recipe.over),
        "seed": seed,
        "data": items_facts(items),
        "items": len(items),
        "release": __version__,  # another may choose otherwise among models
    }
    name = "".join(letter if letter.isalnum() else "-" for letter in recipe.name)
    path = folder / f"{name}-seed{seed}-{digest_of(facts)}.safetensors"
    spent = path.with_suffix(".seconds")
    found = _read(path, scorer)
    if found is None:
        start = time.perf_counter()
        found = scorer.calibrate(items, over=recipe.over, seed=seed, progress=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(spent, f"{time.perf_counter() - start:.3f}\n")
        found.save(path)  # written last: with it the calibration is done
    return Calibrated(found, seconds_in(spent), len(items))


def _read(path: Path, scorer: Scorer) -> Calibration | None:
    if not path.exists():
        return None
    try:
        found = Calibration.load(path)
        found.check(scorer.describe())
    except ConfigError:  # damaged, or of another format: it is fitted anew
        return None
    return found
