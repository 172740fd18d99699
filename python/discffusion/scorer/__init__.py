"""The scorer: how well an image and a text match, by a text-to-image diffusion model."""

from __future__ import annotations

from discffusion.observation import Observation, Tokens
from discffusion.scorer.model import PREPROCESS_VERSION, SCORE_VERSION
from discffusion.scorer.scorer import Scorer

__all__ = ["PREPROCESS_VERSION", "SCORE_VERSION", "Observation", "Scorer", "Tokens"]
