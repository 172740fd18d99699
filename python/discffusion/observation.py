"""What one evaluation of the network looks like from inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from discffusion import _core

__all__ = ["HeadScores", "Observation", "Segment", "Tokens"]


@dataclass(frozen=True)
class Segment:
    """Columns of a map that stand for the tokens of one kind of text encoder.

    Attributes:
        encoder: ``"clip"`` or ``"t5"``.
        columns: BOS, the text's own tokens, EOS and padding.
        content: those of the text's own tokens; None if the model lacks the encoder, whose columns then stand for
            nothing.
    """

    encoder: str
    columns: range
    content: range | None


@dataclass(frozen=True, eq=False)
class Tokens:
    """A text as the model reads it: a token for each of the ``m`` columns of a map.

    Attributes:
        ids: int64 ``[m]``, with BOS, EOS and padding; -1 in columns of an encoder that the model lacks.
        strings: the ``m`` entries of the vocabulary.
        offsets: where each token stands in the text, characters ``(start, stop)``; ``(0, 0)`` for the added ones.
        content: the indices of the text's own tokens; a range if there is one kind of text encoder.
        needed: how many tokens the whole text needs, with BOS and EOS.
        truncated: whether it was cut.
        segments: the columns of each kind of text encoder, in order; encoders whose vectors are concatenated in the
            same columns have one segment.
    """

    ids: NDArray[np.int64]
    strings: tuple[str, ...]
    offsets: tuple[tuple[int, int], ...]
    content: Sequence[int]
    needed: int
    truncated: bool
    segments: tuple[Segment, ...]

    @classmethod
    def from_core(cls, tokens: _core._Tokens) -> Tokens:
        segments = tuple(
            Segment(encoder, range(*columns), None if own is None else range(*own))
            for encoder, columns, own in tokens["segments"]
        )
        own = [segment.content for segment in segments if segment.content is not None]
        return cls(
            ids=tokens["ids"],
            strings=tuple(tokens["strings"]),
            offsets=tuple(tokens["offsets"]),
            content=own[0] if len(own) == 1 else tuple(i for content in own for i in content),
            needed=tokens["needed"],
            truncated=tokens["truncated"],
            segments=segments,
        )


@dataclass(frozen=True, eq=False)
class Observation:
    """One evaluation of the denoising network at one timestep (Eq. 3); arrays are float32.

    Attributes:
        maps: by layer, in forward order, ``[heads, n, m]`` over ``n`` image tokens (row by row) and ``m`` text tokens.
        prediction: what the network predicts, ``[C, h, w]``: the noise or a velocity, as the model was trained; None
            if it was not wanted.
        latent: the noised latent ``z_t``, ``[C, h, w]``.
        clean: the latent ``z``, ``[C, h, w]``.
        noise: the noise, ``[C, h, w]``.
        tokens: the text as the model reads it.
        timestep: the training timestep, or ``1000 σ`` of a flow.
    """

    maps: dict[str, NDArray[np.float32]]
    prediction: NDArray[np.float32] | None
    latent: NDArray[np.float32]
    clean: NDArray[np.float32]
    noise: NDArray[np.float32]
    tokens: Tokens
    timestep: int | float

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.latent.shape))
        return f"Observation(timestep={self.timestep}, maps of {len(self.maps)} layers, latent {shape})"


@dataclass(frozen=True, eq=False)
class HeadScores:
    """What the scores of pairs are made of, before heads, layers and timesteps are weighed.

    With ``heads="mean"`` and no prior, the attention score of a pair is the mean of ``layers`` over timesteps, layers
    and heads; the denoising score is the mean of ``denoising`` over timesteps.

    Attributes:
        layers: by scored layer, in forward order, the pooled map of each head, float32 ``[pairs, steps, heads]``; empty
            without attention in the score.
        denoising: the denoising term, unweighted, float64 ``[pairs, steps]``; None without one.
        timesteps: of the steps.
        prior: the same numbers of each text without an image, means over the null images, ``[texts, …]`` in place of
            ``[pairs, …]``; None unless the configuration has a prior.
    """

    layers: dict[str, NDArray[np.float32]]
    denoising: NDArray[np.float64] | None
    timesteps: tuple[int | float, ...]
    prior: HeadScores | None = None

    def select(self, rows: NDArray[np.intp]) -> HeadScores:
        """Some of the pairs, or of the texts of a prior, without a prior of their own."""
        return HeadScores(
            {layer: numbers[rows] for layer, numbers in self.layers.items()},
            None if self.denoising is None else self.denoising[rows],
            self.timesteps,
        )
