"""Figure 8: images generated before and after tuning."""

from __future__ import annotations

from discffusion.reproduce.experiment import Experiment

__all__ = ["EXPERIMENT"]

EXPERIMENT = Experiment(
    "figure8",
    "Generated images before and after few-shot tuning",
    "prompts of Visual Genome; DDIM, 50 steps",
    gap="the package does not generate images yet.",
)
