"""Diffusion Classifier and DiffusionITM: how well a text helps the pocket or another diffusion model to denoise."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion._arguments import whole_number
from discffusion.baselines.protocol import Baseline, Pairs
from discffusion.config import option_table
from discffusion.errors import ConfigError
from discffusion.scorer import Scorer
from discffusion.staged import Staged
from discffusion.stages import check_stages

__all__ = ["Denoising", "StagedDenoising", "diffusion_classifier", "diffusion_itm"]

#: what a baseline is in the options of a score
CLASSIFIER = {"noise_range": None, "method": "denoising", "unconditional": False, "denoising_error": "mse"}
ITM = {"noise_range": None, "method": "denoising", "unconditional": True, "denoising_error": "norm"}


class _Denoising(Baseline):
    def __init__(self, name: str, scorer: Scorer) -> None:
        self.name = name
        self.scorer = scorer

    def count_tokens(self, texts: Any) -> list[tuple[int, bool]]:
        """For every text its tokens, and whether the model reads fewer; see :meth:`Scorer.count_tokens`."""
        return self.scorer.count_tokens(texts)

    def describe(self) -> dict[str, Any]:
        return {"baseline": self.name, **self.scorer.describe()}


class Denoising(_Denoising):
    """Every pair is scored at all timesteps."""

    def matrix(self, images: Any, texts: Any) -> NDArray[np.float64]:
        return self.scorer.matrix(images, texts, progress=False)

    def score_pairs(self, images: Any, texts: Any, pairs: Pairs) -> NDArray[np.float64]:
        """The scores of some combinations of images and texts; see :meth:`Scorer.score_pairs`."""
        return self.scorer.score_pairs(images, texts, pairs, progress=False)


class StagedDenoising(Staged, Baseline):
    """Candidates that fall behind are left out of later timesteps; see :mod:`discffusion.stages`."""

    def __init__(self, name: str, scorer: Scorer, stages: Any, keep: Any) -> None:
        super().__init__(scorer, stages, keep)
        self.name = name

    def describe(self) -> dict[str, Any]:
        return {"baseline": self.name, **super().describe()}


def diffusion_classifier(
    model: str | os.PathLike[str] | Scorer | None = None, **options: Any
) -> Denoising | StagedDenoising:
    """Diffusion Classifier (Li et al., ICCV 2023): minus the mean squared error of the predicted noise.

    Args:
        model: as :class:`discffusion.Scorer` takes it, or a scorer whose weights and deltas are shared.
        steps: number of timesteps, of the model's whole schedule or of `noise_range` if it is given; 50 unless
            `stages` says otherwise.
        stages: numbers of timesteps after which candidates that have fallen behind are left out, as ``(4, 12, 50)``;
            None scores all pairs at all timesteps.
        keep: share of candidates that a stage but the last keeps, or one share for each of them; None keeps those that
            may yet turn out to be the best.
        config: further options of the score, see :class:`discffusion.ScoreConfig`.
        others: of the model, as ``device``, ``dtype``, ``local_files_only``, or fields of the score.
    """
    return _make("diffusion-classifier", CLASSIFIER, model, **options)


def diffusion_itm(
    model: str | os.PathLike[str] | Scorer | None = None, **options: Any
) -> Denoising | StagedDenoising:
    """DiffusionITM (Krojer et al., NeurIPS 2023): by how much the text lowers the error of the predicted noise.

    The error under the empty text is the image's own difficulty; without it, images that are easy to denoise would
    match every text. Arguments as of :func:`diffusion_classifier`.
    """
    return _make("diffusion-itm", ITM, model, **options)


def _make(
    name: str,
    kind: Mapping[str, Any],
    model: Any,
    *,
    steps: int | None = None,
    stages: Any = None,
    keep: Any = None,
    config: Any = None,
    **others: Any,
) -> Denoising | StagedDenoising:
    if steps is not None:
        whole_number("steps", steps, 1)
    given = [field for field in ("timesteps", "noise_levels") if others.get(field) is not None]
    if steps is None and not given:
        steps = 50 if stages is None else check_stages(stages, keep)[0][-1]
    fields = dict(kind) if steps is None else {**kind, "steps": steps}
    names = {row["name"] for row in option_table()}
    own = {key: others.pop(key) for key in list(others) if key in names}
    if isinstance(model, Scorer):
        if others:
            raise ConfigError(f"the scorer is given, so {', '.join(sorted(others))} cannot be")
        scorer = model.with_config(config, **{**fields, **own})
    else:
        scorer = Scorer(model, config=config, **{**fields, **own}, **others)
    return Denoising(name, scorer) if stages is None else StagedDenoising(name, scorer, stages, keep)
