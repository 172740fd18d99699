"""Table 9: one timestep against all; few-shot."""

from __future__ import annotations

from discffusion.reproduce.claims import Claim
from discffusion.reproduce.columns import COMPOSITION, averaged
from discffusion.reproduce.experiment import Experiment
from discffusion.reproduce.methods import ours
from discffusion.reproduce.paper_table import PaperTable
from discffusion.reproduce.result import Result
from discffusion.reproduce.runner import ExperimentRunner
from discffusion.reproduce.tabulate import tabulate
from discffusion.reproduce.trainings import FEW, FEW_PAPER

__all__ = ["EXPERIMENT"]

ALL, FIRST, LAST = (
    "Discffusion",
    "Discffusion (First Time Step Sampling)",
    "Discffusion (Last Time Step Sampling)",
)
PRINTED = PaperTable(
    ("Subjects", "Objects", "Predicate", "Average"),
    {
        ALL: (80.78, 84.90, 63.43, 78.27),
        FIRST: (59.93, 54.24, 51.68, 55.45),
        LAST: (76.78, 80.90, 59.43, 74.27),
    },
)
CLAIMS = (
    Claim("All timesteps together beat the first and the last alone", (ALL,), (FIRST, LAST), ("Average",)),
    Claim("The last timestep beats the first, the noisiest", (LAST,), (FIRST,), ("Average",)),
)


def run(runner: ExperimentRunner) -> Result:
    lines, notes = [], []
    for variant, recipe in (("attention", FEW), ("paper", FEW_PAPER)):
        timesteps = runner.scorer(variant).describe()["timesteps"]  # in sampling order, the noisiest first
        lines += [
            ours(ALL, variant, recipe),
            ours(FIRST, variant, recipe, timesteps=[timesteps[0]]),
            ours(LAST, variant, recipe, timesteps=[timesteps[-1]]),
        ]
        notes.append(
            f"{variant}: {len(timesteps)} timesteps, the first {timesteps[0]}, the last {timesteps[-1]}"
        )
    return tabulate(runner, EXPERIMENT, averaged(COMPOSITION), lines, CLAIMS, notes)


EXPERIMENT = Experiment(
    "table9",
    "The first, the last, and all timesteps, few-shot",
    "Compositional Visual Genome; 5 % for training",
    PRINTED,
    run,
)
