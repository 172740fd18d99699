"""The bundled models of the ``shapes`` world: a miniature Stable Diffusion, and a small CLIP."""

from __future__ import annotations

from pathlib import Path

#: where the trained model lies within the package, in the diffusers layout
MODEL_DIR = Path(__file__).parent / "model"
#: where the small CLIP lies, in the layout of transformers' CLIPModel
CLIP_DIR = Path(__file__).parent / "clip_model"
#: the calibration of the trained model's default score
CALIBRATION = Path(__file__).parent / "calibration.safetensors"
