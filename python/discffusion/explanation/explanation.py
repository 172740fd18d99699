"""What a score comes of, as an object: :class:`Explanation`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion.errors import ConfigError, InstallationError
from discffusion.explanation import plots
from discffusion.explanation.difference import Difference, difference
from discffusion.explanation.files import as_dict, as_html, save
from discffusion.explanation.grid import (
    DEFAULT_NORMALISE,
    Normalise,
    filled,
    on_grid,
    on_image,
    seen_part,
    unit_scaled,
)
from discffusion.explanation.words import Token, Word, find
from discffusion.plot.figure import png

__all__ = ["DEFAULT_NORMALISE", "Explanation"]


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """The score of an image and a text, taken apart, and the attention maps of its words.

    **What adds up.** A score is a mean over timesteps, layers and heads of pooled maps, so each of them has its part,
    and ``per_layer``, ``per_head`` and ``per_timestep`` add up to the score. A pooled map is split between its entries:

    - LogSumExp, ``1/n Σ_i 1/λ log Σ_j exp(λ A_ij)``: image token ``i`` gives its term to the text tokens ``j`` by
      ``r_ij = softmax_j(λ A_ij)``. This is the same as ``1/n Σ_ij r_ij (A_ij − 1/λ log r_ij)``.
    - maxima: the term goes to the entry that attains it, in equal parts to several that do.
    - mean: each entry gives its value.

    Heads count what they count in the score: all the same, the chosen ones alone, or by attributed or learned weights
    (which are constants here). Where ``attribution`` is elementwise, the attributed map is what is pooled and split.
    With ``tokens="content"`` only the text's own tokens have a part. The denoising term is of no token, layer or head:
    ``denoising`` is its own entry, and so is ``prior``, which is subtracted for the text whatever the image. So, with
    ``rest = denoising + prior``, within 1e-6 (of the score's size, where that is above 1)::

        score = per_token.sum() + rest = sum(per_layer.values()) + rest = per_timestep.sum()
              = places.sum() + rest    = sum(c.sum() for c in contributions.values()) + rest

    A part says how the number came about, not what the score would be without the word.

    **Maps.** ``maps`` are attention maps averaged over heads, layers shown and timesteps, and are of the kind and the
    layers that ``explain`` was asked for, which need not be those that are scored. Outside of what the model saw of the
    image (``resize="crop"``) they are NaN; those of :meth:`map_of` are masked there, or filled.

    Attributes:
        image: uint8 ``[H, W, 3]``, at most 1024 pixels a side: larger ones are shown smaller.
        text: the prompt.
        score: as :meth:`Scorer.score` gives it.
        tokens: BOS, the prompt's own tokens, EOS, and the padding as one entry.
        words: the prompt's words and marks in order; a word that stands there twice is there twice.
        timesteps: at which the pair was scored.
        contributions: by layer, what each timestep, head and token adds: float64 ``[steps, heads, tokens]``.
        places: what each token adds at each place of the finest layer scored: float64 ``[tokens, h, w]``; None without
            attention in the score.
        denoising_per_timestep: float64 ``[steps]``; zeros without a denoising term.
        prior_per_timestep: float64 ``[steps]``, ``-prior_weight`` times what the text scores without an image; zeros
            without a prior.
        layer_maps: by layer shown, float32 ``[heads, tokens, h, w]``, the mean over timesteps; padding by its mean.
        timestep_maps: float32 ``[steps, tokens, h, w]``, the mean over heads and layers on the grid of the finest.
        view: what the model saw of ``image``: left, top, right and bottom edge in its pixels.
        map: kind of the maps.
        settings: what the score depends on, as :meth:`Scorer.describe` says it.
    """

    image: NDArray[np.uint8]
    text: str
    score: float
    tokens: tuple[Token, ...]
    words: tuple[Word, ...]
    timesteps: tuple[int | float, ...]
    contributions: dict[str, NDArray[np.float64]]
    places: NDArray[np.float64] | None
    denoising_per_timestep: NDArray[np.float64]
    prior_per_timestep: NDArray[np.float64]
    layer_maps: dict[str, NDArray[np.float32]]
    timestep_maps: NDArray[np.float32]
    view: tuple[float, float, float, float]
    map: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def maps(self) -> NDArray[np.float32]:
        """Raw maps by token on the image, float32 ``[tokens, H, W]``."""
        return on_image(self.timestep_maps.mean(axis=0), self._size, self.view)

    @cached_property
    def normalised(self) -> NDArray[np.float32]:
        """The same, each from 0 at its lowest to 1 at its highest."""
        return unit_scaled(self.maps)

    @property
    def denoising(self) -> float:
        """What the denoising term adds to the score; 0 without one."""
        return float(self.denoising_per_timestep.sum())

    @property
    def prior(self) -> float:
        """What the text prior adds to the score; 0 without one."""
        return float(self.prior_per_timestep.sum())

    @cached_property
    def per_token(self) -> NDArray[np.float64]:
        """What each token adds to the score, float64 ``[tokens]``; the padding in all."""
        totals = np.zeros(len(self.tokens))
        for of_layer in self.contributions.values():
            totals += of_layer.sum(axis=(0, 1))
        return totals

    @cached_property
    def per_word(self) -> NDArray[np.float64]:
        """What each word adds to the score, float64 ``[words]``."""
        return np.array([self.per_token[list(word.tokens)].sum() for word in self.words])

    @cached_property
    def per_layer(self) -> dict[str, float]:
        """What each layer adds to the score."""
        return {name: float(of_layer.sum()) for name, of_layer in self.contributions.items()}

    @cached_property
    def per_head(self) -> dict[str, NDArray[np.float64]]:
        """By layer, what each head adds to the score, float64 ``[heads]``."""
        return {name: np.sum(of_layer, axis=(0, 2)) for name, of_layer in self.contributions.items()}

    @cached_property
    def per_timestep(self) -> NDArray[np.float64]:
        """What each timestep adds to the score, denoising term and prior included: float64 ``[steps]``."""
        totals: NDArray[np.float64] = self.denoising_per_timestep + self.prior_per_timestep
        for of_layer in self.contributions.values():
            totals += of_layer.sum(axis=(1, 2))
        return totals

    def contribution(self, word: str | int | Word, nth: int | None = None) -> float:
        """What a word, or several in a row, add to the score. See :meth:`map_of`."""
        return float(self.per_token[list(self._find(word, nth)[1])].sum())

    def map_of(
        self,
        word: str | int | Word,
        nth: int | None = None,
        *,
        layer: str | None = None,
        head: int | None = None,
        timestep: float | None = None,
        normalise: Normalise | None = None,
        fill: float | None = None,
    ) -> NDArray[np.float32]:
        """The map of a word on the image, float32 ``[H, W]``: the mean over its tokens.

        Where the model saw a part of the image alone (``resize="crop"``), the rest is masked: the result is then a
        ``numpy.ma.MaskedArray``, whose ``argmax``, ``mean`` and the like are those of the part that was seen.

        Args:
            word: a word of the prompt or several in a row (``"red circle"``), its index in ``words``, or ``"<bos>"``,
                ``"<eos>"`` or ``"<padding>"``.
            nth: which one, from 0, where the prompt has it more than once.
            layer: one layer that is shown, not their mean.
            head: of that layer, one head.
            timestep: one timestep, not their mean.
            normalise: None for raw values; ``"unit"`` from 0 at the lowest to 1 at the highest; ``"contrast"`` the
                same of what the map has above the mean of the prompt's own tokens.
            fill: what stands where the model saw nothing, in a plain array; None masks it.

        Raises:
            ConfigError: there is no such word, layer, head or timestep.
        """
        _, indices = self._find(word, nth)
        maps = self._grid_maps(layer, head, timestep)
        of_word = maps[list(indices)].mean(axis=0)
        if normalise == "contrast":
            own = [i for i, token in enumerate(self.tokens) if token.kind == "own"]
            of_word = of_word - maps[own or slice(None)].mean(axis=0)
        elif normalise not in (None, "unit"):
            raise ConfigError(f"normalise is {normalise!r}; expected None, 'unit' or 'contrast'")
        placed = on_image(of_word, self._size, self.view)
        return filled(placed if normalise is None else unit_scaled(placed), fill)

    def peak(self, word: str | int | Word, nth: int | None = None, **options: Any) -> tuple[int, int]:
        """Row and column of the highest point of :meth:`map_of`, in pixels of ``image``."""
        values = self.map_of(word, nth, **{**options, "fill": -np.inf})
        row, column = np.unravel_index(np.argmax(values), values.shape)
        return int(row), int(column)

    def seen(self) -> tuple[slice, slice]:
        """Rows and columns of ``image`` that the model saw."""
        return seen_part(self.view, self._size)

    def compare(self, other: Explanation) -> Difference:
        """How this one and another of the same image, or of the same text, differ: this one minus the other.

        Raises:
            ConfigError: neither image nor text are the same, or they were scored in different ways.
        """
        return difference(self, other)

    def plot(self) -> Any:
        """All of it as one matplotlib Figure: the maps of the words, and what layers, timesteps and heads add.

        Raises:
            InstallationError: matplotlib is not installed.
        """
        return plots.overview(self)

    def overlay(
        self,
        word: str | int | Word,
        nth: int | None = None,
        *,
        normalise: Normalise | None = DEFAULT_NORMALISE,
        **where: Any,
    ) -> Any:
        """The image with the map of a word over it, as a matplotlib Figure; arguments as of :meth:`map_of`."""
        return plots.overlay(self, word, nth, normalise=normalise, **where)

    def plot_words(self, *, columns: int = 5, normalise: Normalise | None = DEFAULT_NORMALISE) -> Any:
        """The maps of all words side by side, at most `columns` in a row, as a matplotlib Figure.

        Raises:
            ConfigError: `columns` is less than 1.
        """
        if columns < 1:
            raise ConfigError(f"columns is {columns}; expected at least 1")
        return plots.words(self, columns, normalise)

    def plot_layers(self) -> Any:
        """What layers add at each timestep, and their heads in all, as heat maps on a matplotlib Figure."""
        return plots.layers(self)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the maps as plain data."""
        return as_dict(self)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes ``explanation.json`` (numbers), ``explanation.npz`` (arrays) and the plots ``overview.png``,
        ``words.png`` and ``layers.png`` to a folder, which is made if need be; each file whole or not at all.

        Raises:
            InstallationError: matplotlib is not installed.
            DiscffusionError: a file cannot be written.
        """
        save(self, folder)

    def __repr__(self) -> str:
        shape = "x".join(str(side) for side in self._size)
        return (
            f"Explanation({self.text!r}, score {self.score:.6g}, {len(self.words)} words, "
            f"{self.map} maps of {len(self.layer_maps)} layers on {shape})"
        )

    def _repr_png_(self) -> bytes | None:
        return self._png

    def _repr_html_(self) -> str:
        return as_html(self, self._png)

    @cached_property
    def _png(self) -> bytes | None:
        try:
            return png(self.plot())
        except InstallationError:  # then the numbers alone are shown
            return None

    @property
    def _size(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]

    def _find(self, word: str | int | Word, nth: int | None) -> tuple[str, tuple[int, ...]]:
        return find(word, nth, self.words, self.tokens)

    def _grid_maps(self, layer: str | None, head: int | None, timestep: float | None) -> NDArray[np.float32]:
        """Maps by token ``[tokens, h, w]``."""
        if timestep is not None:
            if layer is not None or head is not None:
                raise ConfigError("maps are kept by layer and head, or by timestep; for both, use observe")
            at = [i for i, each in enumerate(self.timesteps) if each == timestep]
            if not at:
                raise ConfigError(
                    f"timestep is {timestep!r}; there are {', '.join(map(str, self.timesteps))}"
                )
            by_time: NDArray[np.float32] = self.timestep_maps[at].mean(axis=0)
            return by_time
        if layer is None:
            if head is not None:
                raise ConfigError("a head belongs to a layer; say which layer")
            mean: NDArray[np.float32] = self.timestep_maps.mean(axis=0)
            return mean
        if layer not in self.layer_maps:
            raise ConfigError(f"layer is {layer!r}; shown are {', '.join(self.layer_maps)}")
        maps = self.layer_maps[layer]
        if head is not None and (isinstance(head, bool) or head not in range(len(maps))):
            raise ConfigError(f"head is {head!r}; {layer} has the heads 0 to {len(maps) - 1}")
        of_layer: NDArray[np.float32] = maps.mean(axis=0) if head is None else maps[head]
        return on_grid(of_layer, self.timestep_maps.shape[-1])
