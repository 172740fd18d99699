"""Table 6: retrieval by embeddings."""

from __future__ import annotations

from discffusion.reproduce.claims import Claim
from discffusion.reproduce.columns import COMPOSITION, REFERRING, averaged
from discffusion.reproduce.experiment import Experiment
from discffusion.reproduce.methods import embedding, tuned
from discffusion.reproduce.paper_table import PaperTable
from discffusion.reproduce.result import Result
from discffusion.reproduce.runner import ExperimentRunner
from discffusion.reproduce.tabulate import tabulate
from discffusion.reproduce.trainings import FEW

__all__ = ["EXPERIMENT"]

PRINTED = PaperTable(
    ("Subjects", "Objects", "Predicate", "Average", "Top-1 Acc.", "Top-5 Acc."),
    {
        "CLIP-embedding": (80.77, 82.49, 60.50, 76.10, 69.88, 84.57),
        "Discffusion-embedding": (78.43, 76.25, 57.68, 73.27, 66.14, 84.61),
    },
    notes=("The paper's row of CLIP is that of CLIP (Fine-tuning) in its Table 1.",),
)
CLAIMS = (
    Claim(
        "CLIP's embeddings are better than Discffusion's",
        ("CLIP-embedding",),
        ("Discffusion-embedding",),
        ("Average", "Top-1 Acc."),
    ),
)


def run(runner: ExperimentRunner) -> Result:
    lines = [
        tuned("CLIP-embedding", "clip-tuned", FEW),
        embedding("Discffusion-embedding", FEW),
    ]
    return tabulate(runner, EXPERIMENT, (*averaged(COMPOSITION), *REFERRING), lines, CLAIMS)


EXPERIMENT = Experiment(
    "table6",
    "Retrieval by embeddings, few-shot",
    "Compositional Visual Genome, RefCOCOg; 5 % for training",
    PRINTED,
    run,
)
