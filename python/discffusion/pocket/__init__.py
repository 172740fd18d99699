"""The pocket model: a miniature Stable Diffusion of the ``shapes`` world, and the recipe that trains it."""

from __future__ import annotations

from pathlib import Path

#: where the trained model lies within the package, in the diffusers layout
MODEL_DIR = Path(__file__).parent / "model"
