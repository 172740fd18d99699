"""Table 12: what tuning does to generation."""

from __future__ import annotations

from discffusion.reproduce.experiment import Experiment
from discffusion.reproduce.printed import Printed

__all__ = ["EXPERIMENT"]

PRINTED = Printed(
    ("MS-COCO: FID", "MS-COCO: IS", "ComVG: FID", "ComVG: IS"),
    {"Stable Diffusion": (23.3, 19.7, 26.9, 17.5), "Discffusion": (24.1, 19.5, 26.0, 18.1)},
    unit="FID (lower is better) and inception score (IS).",
)

EXPERIMENT = Experiment(
    "table12",
    "Text-to-image generation after few-shot tuning",
    "MS-COCO, Compositional Visual Genome; DDIM, 50 steps",
    PRINTED,
    gap="the package does not generate images yet, so there is nothing to measure FID and inception score on.",
)
