"""What tables share: the model, the data, trainings, calibrations and measurements, each of which is done once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from discffusion._files import write_text
from discffusion._identity import described, digest
from discffusion.errors import ConfigError
from discffusion.evaluation.record import Record
from discffusion.evaluation.run import evaluate
from discffusion.evaluation.store.settings import settings_of
from discffusion.reproduce.baselines import PAPERS_CLIP, Baselines
from discffusion.reproduce.calibrations import Calibrated, CalibrationRecipe, calibrate
from discffusion.reproduce.kept import seconds_in
from discffusion.reproduce.methods import TableRow, absent, baseline
from discffusion.reproduce.scale import Scale
from discffusion.reproduce.sources import BENCHMARKS, Source, sources
from discffusion.reproduce.trainings import Recipe, Trained, train

if TYPE_CHECKING:
    from discffusion.data.lazy import Dataset
    from discffusion.deltas import Deltas
    from discffusion.reproduce.methods import Method
    from discffusion.scorer import Scorer

__all__ = ["CalibrationKey", "ExperimentRunner", "LacksDataError", "Measured", "slug"]


class LacksDataError(Exception):
    """A place that is measured or trained on has no data, or too little; the message says what to give."""


#: the paper's model, by any of the names it is found under
_PAPERS_MODEL = "stable-diffusion-2-1-base"


class CalibrationKey(NamedTuple):
    """Which calibration it is: how, of what score, trained how if at all, on what data."""

    recipe: CalibrationRecipe
    score: str
    training: Recipe | None
    place: str
    seed: int


@dataclass(frozen=True)
class Measured:
    """Scored items by seed, and what scoring them took, all parts of an interrupted run together."""

    by_seed: Mapping[int, list[Record]]
    seconds: float


class ExperimentRunner:
    """Measures, trains and calibrates for all tables of a run.

    Args:
        scorer: the model; its configuration is not used.
        data: datasets and their folders, see :func:`discffusion.reproduce.sources.sources`.
        scale: how much is measured.
        seeds: of noise, training and the choice of training items of the stand-in.
        folder: for rows, trainings, calibrations and plots.
        batch_size: items to a training step.
        allow_missing: leave items out whose images are missing, and say so.
        baselines: models of the baselines by name, see :class:`discffusion.reproduce.baselines.Baselines`.
        say: told what is being done, in a line.
    """

    def __init__(
        self,
        scorer: Scorer,
        data: Sequence[tuple[str, str | None]],
        scale: Scale,
        seeds: Sequence[int],
        folder: Path,
        *,
        batch_size: int = 8,
        allow_missing: bool = False,
        baselines: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.base = scorer.with_config("attention").with_deltas(None)
        self.scale, self.seeds, self.folder, self.say = scale, tuple(seeds), folder, say
        self.batch_size = batch_size
        side = int(self.base.info()["resolution"])
        self.sources: dict[str, Source] = sources(data, scale, side, allow_missing)
        self.trainings: dict[tuple[Recipe, str, int], Trained] = {}
        self.calibrations: dict[CalibrationKey, Calibrated] = {}
        self._baselines = Baselines(
            baselines or {},
            self.base,
            scale.denoising_steps,
            all(source.name == "shapes" for source in self.sources.values()),
            folder / "trainings",
        )
        self._measured: dict[str, tuple[list[Record], float]] = {}

    def source(self, place: str) -> Source:
        """The data of a place.

        Raises:
            LacksDataError: there are none.
        """
        if place not in self.sources:
            datasets = " or ".join(f"--data {name}=FOLDER" for name in BENCHMARKS[place].datasets)
            raise LacksDataError(f"no data given for {BENCHMARKS[place].paper}: {datasets}")
        return self.sources[place]

    def scorer(
        self, variant: str = "attention", seed: int = 0, deltas: Deltas | None = None, **fields: Any
    ) -> Scorer:
        """The model with a preset, ``paper`` with as many timesteps as the scale says."""
        more: dict[str, Any] = {"seed": seed, **fields}
        if variant == "paper" and not any(name in fields for name in ("steps", "timesteps", "noise_levels")):
            more["steps"] = self.scale.paper_steps
        return self.base.with_config(variant, **more).with_deltas(deltas)

    def baseline(self, name: str, *, seed: int, **options: Any) -> Any:
        """A baseline without training."""
        return self._baselines.load(name, seed, **options)

    def tuned(self, name: str, recipe: Recipe, place: str, seed: int) -> Any:
        """A baseline tuned on what `recipe` trains on."""
        items = self.source(place).train(recipe.shots, seed)
        return self._baselines.tuned(name, items, self.scale.epochs[recipe.shots], self.batch_size, seed)

    def trained(self, recipe: Recipe, place: str, seed: int) -> Trained:
        """Deltas trained on a place; those that start from captions' are trained on captions first."""
        where = "captions" if recipe.shots == "captions" else place
        key = (recipe, where, seed)
        if key not in self.trainings:
            first = None if recipe.first is None else self.trained(recipe.first, place, seed).deltas
            self.say(f"  training: {recipe.name}, {where}, seed {seed}")
            self.trainings[key] = train(
                self.folder / "trainings",
                recipe,
                self.scorer(recipe.variant, seed, first),
                self.source(where).train(recipe.shots, seed),
                seed=seed,
                epochs=self.scale.epochs[recipe.shots],
                batch_size=self.batch_size,
            )
        return self.trainings[key]

    def calibrated(
        self,
        recipe: CalibrationRecipe,
        place: str,
        seed: int,
        variant: str = "attention",
        training: Recipe | None = None,
        **fields: Any,
    ) -> Scorer:
        """A score that is calibrated on the items that a training on a place has, with deltas of `training` or none.

        Raises:
            LacksDataError: there are no data, or too few items.
        """
        deltas = None if training is None else self.trained(training, place, seed).deltas
        scorer = self.scorer(variant, seed, deltas, **fields)
        score = ", ".join([variant, *(f"{name}={value}" for name, value in fields.items())])
        key = CalibrationKey(recipe, score, training, place, seed)
        if key not in self.calibrations:
            items = self.source(place).train(recipe.shots, seed)
            self.say(
                f"  {recipe.name}: {score}, {training.name if training else 'zero-shot'}, {place}, seed {seed}"
            )
            try:
                self.calibrations[key] = calibrate(
                    self.folder / "calibrations", recipe, scorer, items, seed=seed
                )
            except ConfigError as error:
                raise LacksDataError(f"not calibrated: {error}") from None
        return scorer.with_calibration(self.calibrations[key].calibration)

    def measure(self, method: Method, place: str) -> Measured:
        """Scores the items of a place with every seed; what was scored before, in this run or another, is not again."""
        seeds = self.seeds if method.seeded else self.seeds[:1]
        by_seed = {seed: self._scored(method, place, seed) for seed in seeds}
        return Measured(
            {seed: records for seed, (records, _) in by_seed.items()},
            sum(seconds for _, seconds in by_seed.values()),
        )

    def items(self, method: Method, place: str) -> Dataset[Any]:
        """What a method is measured on."""
        source = self.source(place)
        return source.test() if method.items is None else method.items(source)

    def clip_difference(self) -> str | None:
        """How CLIP differs from the paper's, if it does."""
        model = self._baselines.models["clip"]
        if model == "pocket":
            return "a small CLIP that was trained on drawn scenes stands for CLIP ViT-H/14"
        return None if model == PAPERS_CLIP else f"CLIP is {model}, the paper's is ViT-H/14 of OpenCLIP"

    def optional(self, label: str, name: str) -> TableRow:
        """A row of a baseline for which a model may be given; without one, it is not run."""
        if name not in self._baselines.models:
            return absent(
                label, f"no weights for it come with the package; give a model: --baseline {name}=MODEL"
            )
        return baseline(label, name)

    def _scored(self, method: Method, place: str, seed: int) -> tuple[list[Record], float]:
        scorer, items = method.make(self, place, seed), self.items(method, place)
        run = digest(settings_of(described(scorer), items.name, items.about))
        if run not in self._measured:
            path = self.folder / "rows" / f"{items.name}-{slug(method.about)}-seed{seed}-{run}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            spent = path.with_suffix(".seconds")
            size, start = _size(path), time.perf_counter()
            try:
                records = evaluate(scorer, items, "accuracy", output=path, progress=False).records
            finally:  # also of an interrupted run: its rows are kept
                seconds = seconds_in(spent)
                if _size(path) != size:
                    seconds = round(seconds + time.perf_counter() - start, 3)
                    write_text(spent, f"{seconds:.3f}\n")
            self._measured[run] = (records, seconds)
        return self._measured[run]

    def differences(self, places: Iterable[str]) -> list[str]:
        """How the model and the data differ from the paper's, a sentence each."""
        sentences = []
        name = str(self.base.model_id)
        if name == "pocket":
            sentences.append("the bundled pocket model stands for Stable Diffusion 2.1-base")
        elif not Path(name).name.startswith(_PAPERS_MODEL):
            sentences.append(f"the model is {name}, the paper's is Stable Diffusion 2.1-base")
        for place in dict.fromkeys(places):
            source = self.sources.get(place)
            if source is None:
                sentences.append(f"{BENCHMARKS[place].paper} is not measured: no data given")
            else:
                sentences += source.notes()
        return list(dict.fromkeys(sentences))

    def remarks(self, places: Iterable[str]) -> list[str]:
        """What the datasets say of themselves."""
        given = [self.sources[place] for place in dict.fromkeys(places) if place in self.sources]
        return [note for source in given for note in source.remarks()]


def slug(text: str) -> str:
    """`text` as part of a file's name, 60 characters at most."""
    kept = "".join(letter if letter.isalnum() or letter in "._=" else "-" for letter in text)
    while "--" in kept:
        kept = kept.replace("--", "-")
    return kept.strip("-")[:60]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
