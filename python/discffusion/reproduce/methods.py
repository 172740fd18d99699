"""The ways to score that tables compare: ours in its variants, and the baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from discffusion.data.lazy import Dataset
    from discffusion.reproduce.calibrations import CalibrationRecipe
    from discffusion.reproduce.runner import ExperimentRunner
    from discffusion.reproduce.sources import Source
    from discffusion.reproduce.trainings import Recipe

__all__ = ["Method", "TableRow", "absent", "baseline", "classifier", "embedding", "ours", "tuned"]

#: what is needed to score: the runner, the benchmark that is measured, the seed
Make = Callable[["ExperimentRunner", str, int], Any]


@dataclass(frozen=True)
class Method:
    """A way to score.

    Attributes:
        about: what it is, in a few words; part of file names too.
        make: gives the scorer for a place and a seed.
        seeded: whether the seed changes anything; if not, one is enough.
        items: takes the items from a source; None for those it is measured on.
        places: where it is measured; None for all.
    """

    about: str
    make: Make
    seeded: bool = True
    items: Callable[[Source], Dataset[Any]] | None = None
    places: tuple[str, ...] | None = None


@dataclass(frozen=True)
class TableRow:
    """A row of a table before it is measured; without a method, `absent` says why there is none."""

    label: str
    method: Method | None = None
    variant: str = ""
    absent: Mapping[str, str] = field(default_factory=dict)


def absent(label: str, why: str) -> TableRow:
    """A row of the paper that is not run."""
    return TableRow(label, absent={"*": why})


def ours(
    label: str,
    variant: str = "attention",
    recipe: Recipe | None = None,
    *,
    calibration: CalibrationRecipe | None = None,
    place: str | None = None,
    places: tuple[str, ...] | None = None,
    items: Callable[[Source], Dataset[Any]] | None = None,
    **fields: Any,
) -> TableRow:
    """Our score: a configuration, and deltas and a calibration on the data of the same place.

    Args:
        variant: preset of the score; with a calibration, of the score that is calibrated.
        recipe: how deltas are trained; None for none.
        calibration: how the score with these deltas is calibrated, on the items that a training has; None for not.
        place: where both learn, if it is not the place that is measured.
        places, items: see :class:`Method`.
        fields: of the configuration, changed.
    """
    changed = ", ".join(f"{name}={value}" for name, value in fields.items())
    trained = "zero-shot" if recipe is None else f"{recipe.name}" + (f" on {place}" if place else "")
    about = f"{variant} score{f' with {changed}' if changed else ''}, {trained}"
    if calibration is not None:
        about += f", {calibration.name}"

    def make(runner: ExperimentRunner, measured: str, seed: int) -> Any:
        if calibration is not None:
            return runner.calibrated(calibration, place or measured, seed, variant, recipe, **fields)
        deltas = None if recipe is None else runner.trained(recipe, place or measured, seed).deltas
        return runner.scorer(variant, seed, deltas, **fields)

    return TableRow(label, Method(about, make, items=items, places=places), variant)


def embedding(label: str, recipe: Recipe) -> TableRow:
    """Our embeddings (appendix E) by their cosine, with deltas of a training on the data of the same place."""

    def make(runner: ExperimentRunner, measured: str, seed: int) -> Any:
        from discffusion.baselines.embeddings import Embeddings

        return Embeddings(runner.scorer(seed=seed, deltas=runner.trained(recipe, measured, seed).deltas))

    return TableRow(label, Method(f"cosine of embeddings, {recipe.name}", make))


def classifier(
    label: str,
    recipe: Recipe | None = None,
    *,
    unconditional: bool = False,
    place: str | None = None,
    places: tuple[str, ...] | None = None,
) -> TableRow:
    """Diffusion Classifier: how well the text predicts the noise; DiffusionITM where `unconditional`.

    Every candidate is scored at every timestep: no candidate is left out early.
    """
    name = "diffusion-itm" if unconditional else "diffusion-classifier"

    def make(runner: ExperimentRunner, measured: str, seed: int) -> Any:
        deltas = None if recipe is None else runner.trained(recipe, place or measured, seed).deltas
        return runner.baseline(name, seed=seed, deltas=deltas)

    return TableRow(label, Method(f"{name}, {recipe.name if recipe else 'zero-shot'}", make, places=places))


def baseline(label: str, name: str, *, seeded: bool = False, **options: Any) -> TableRow:
    """A baseline without training."""

    def make(runner: ExperimentRunner, place: str, seed: int) -> Any:
        return runner.baseline(name, seed=seed, **options)

    return TableRow(label, Method(f"{name}, zero-shot", make, seeded=seeded))


def tuned(label: str, name: str, recipe: Recipe, *, place: str | None = None) -> TableRow:
    """A baseline tuned on the data that our few-shot training has."""

    def make(runner: ExperimentRunner, measured: str, seed: int) -> Any:
        return runner.tuned(name, recipe, place or measured, seed)

    return TableRow(label, Method(f"{name}, {recipe.name}" + (f" on {place}" if place else ""), make))
