"""Table 7: 5 % against 0.5 % of the data to train on."""

from __future__ import annotations

from discffusion.reproduce.claims import Claim
from discffusion.reproduce.columns import COMPOSITION, averaged
from discffusion.reproduce.experiment import Experiment
from discffusion.reproduce.methods import ours, tuned
from discffusion.reproduce.paper_table import PaperTable
from discffusion.reproduce.result import Result
from discffusion.reproduce.runner import ExperimentRunner
from discffusion.reproduce.tabulate import tabulate
from discffusion.reproduce.trainings import EXTREME, FEW

__all__ = ["EXPERIMENT"]

#: the paper prints both halves side by side; here they are rows
PRINTED = PaperTable(
    ("Subjects", "Objects", "Predicate", "Average"),
    {
        "5 %: CLIP (Fine-tuning)": (80.77, 82.49, 60.50, 76.10),
        "5 %: CLIP (Prompt Learning)": (78.88, 79.51, 60.41, 74.24),
        "5 %: Discffusion": (80.78, 84.90, 63.43, 78.27),
        "0.5 %: CLIP (Fine-tuning)": (74.40, 75.10, 57.90, 69.80),
        "0.5 %: CLIP (Prompt Learning)": (74.55, 75.15, 57.79, 69.83),
        "0.5 %: Discffusion": (78.65, 81.40, 66.68, 75.91),
    },
    notes=(
        "In the paper's Predicate column, 0.5 % of the data (66.68) gives more than 5 % (63.43).",
        "Trained on 0.5 %, the paper's figures are below its zero-shot ones (Table 1: CLIP 74.20, Discffusion 78.11).",
    ),
)
CLAIMS = (
    Claim(
        "With 0.5 % of the data, Discffusion beats CLIP tuned in either way",
        ("0.5 %: Discffusion",),
        ("0.5 %: CLIP (Fine-tuning)", "0.5 %: CLIP (Prompt Learning)"),
        ("Average",),
    ),
    Claim(
        "More data is better for Discffusion",
        ("5 %: Discffusion",),
        ("0.5 %: Discffusion",),
        ("Average",),
    ),
)


def run(runner: ExperimentRunner) -> Result:
    lines = [
        line
        for share, recipe in (("5 %", FEW), ("0.5 %", EXTREME))
        for line in (
            tuned(f"{share}: CLIP (Fine-tuning)", "clip-tuned", recipe),
            tuned(f"{share}: CLIP (Prompt Learning)", "cocoop", recipe),
            ours(f"{share}: Discffusion", recipe=recipe),
        )
    ]
    return tabulate(runner, EXPERIMENT, averaged(COMPOSITION), lines, CLAIMS)


EXPERIMENT = Experiment(
    "table7",
    "5 % and 0.5 % of the data",
    "Compositional Visual Genome; 5 % and 0.5 % (27 rows) for training",
    PRINTED,
    run,
)
