"""Where a score comes from: :class:`Explanation`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from discffusion import _native
from discffusion._arguments import checked_noise, checked_texts
from discffusion._progress import Progress, reporting
from discffusion.errors import ConfigError, InstallationError
from discffusion.explaining.place import filled, on_grid, on_image, seen_part
from discffusion.explaining.words import Token, Word, find, tokens_of, words_of
from discffusion.images import is_single, prepare
from discffusion.observation import Tokens

if TYPE_CHECKING:
    from discffusion.explaining.difference import Difference
    from discffusion.scorer import Scorer

__all__ = ["Explanation", "Token", "Word", "explain"]

#: longest side of the picture that maps are brought to, pixels
LONGEST = 1024

Normalise = Literal["unit", "contrast"]
#: how maps are drawn unless the caller says: what pointed best (tests/benchmarks/pointing.py)
DEFAULT_NORMALISE: Normalise = "contrast"


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
    ``denoising`` is its own entry. So, within 1e-6 (of the score's size, where that is above 1)::

        score = per_token.sum() + denoising = sum(per_layer.values()) + denoising = per_timestep.sum()
              = places.sum() + denoising    = sum(c.sum() for c in contributions.values()) + denoising

    A part says how the number came about, not what the score would be without the word.

    **Maps.** ``maps`` are attention maps averaged over heads, layers shown and timesteps, and are of the kind and the
    layers that ``explain`` was asked for, which need not be those that are scored. Outside of what the model saw of the
    image (``resize="crop"``) they are NaN; those of :meth:`map_of` are masked there, or filled.

    Attributes:
        image: uint8 ``[H, W, 3]``, at most 1024 pixels a side: larger ones are shown smaller.
        text: the prompt.
        score: as :meth:`Scorer.score` gives it.
        tokens: begin, the prompt's own tokens, end, and the padding as one entry.
        words: the prompt's words and marks in order; a word that stands there twice is there twice.
        timesteps: at which the pair was scored.
        contributions: by layer, what each timestep, head and token adds: float64 ``[steps, heads, tokens]``.
        places: what each token adds at each place of the finest layer scored: float64 ``[tokens, h, w]``; None without
            attention in the score.
        denoising_per_timestep: float64 ``[steps]``; zeros without a denoising term.
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
    timesteps: tuple[int, ...]
    contributions: dict[str, NDArray[np.float64]]
    places: NDArray[np.float64] | None
    denoising_per_timestep: NDArray[np.float64]
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
        return _unit(self.maps)

    @property
    def denoising(self) -> float:
        """What the denoising term adds to the score; 0 without one."""
        return float(self.denoising_per_timestep.sum())

    @cached_property
    def per_token(self) -> NDArray[np.float64]:
        """What each token adds to the score, float64 ``[tokens]``; the padding in all."""
        found = np.zeros(len(self.tokens))
        for of_layer in self.contributions.values():
            found += of_layer.sum(axis=(0, 1))
        return found

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
        """What each timestep adds to the score, the denoising term included: float64 ``[steps]``."""
        found: NDArray[np.float64] = self.denoising_per_timestep.copy()
        for of_layer in self.contributions.values():
            found += of_layer.sum(axis=(1, 2))
        return found

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
        timestep: int | None = None,
        normalise: Normalise | None = None,
        fill: float | None = None,
    ) -> NDArray[np.float32]:
        """The map of a word on the image, float32 ``[H, W]``: the mean over its tokens.

        Where the model saw a part of the image alone (``resize="crop"``), the rest is masked: the result is then a
        ``numpy.ma.MaskedArray``, whose ``argmax``, ``mean`` and the like are those of the part that was seen.

        Args:
            word: a word of the prompt or several in a row (``"red circle"``), its index in ``words``, or ``"<begin>"``,
                ``"<end>"`` or ``"<padding>"``.
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
        found = maps[list(indices)].mean(axis=0)
        if normalise == "contrast":
            own = [i for i, token in enumerate(self.tokens) if token.kind == "own"]
            found = found - maps[own or slice(None)].mean(axis=0)
        elif normalise not in (None, "unit"):
            raise ConfigError(f"normalise is {normalise!r}; expected None, 'unit' or 'contrast'")
        placed = on_image(found, self._size, self.view)
        return filled(placed if normalise is None else _unit(placed), fill)

    def peak(self, word: str | int | Word, nth: int | None = None, **options: Any) -> tuple[int, int]:
        """Row and column of the highest point of :meth:`map_of`, in pixels of ``image``."""
        found = self.map_of(word, nth, **{**options, "fill": -np.inf})
        row, column = np.unravel_index(np.argmax(found), found.shape)
        return int(row), int(column)

    def seen(self) -> tuple[slice, slice]:
        """Rows and columns of ``image`` that the model saw."""
        return seen_part(self.view, self._size)

    def compare(self, other: Explanation) -> Difference:
        """How this one and another of the same image, or of the same text, differ: this one minus the other.

        Raises:
            ConfigError: neither image nor text are the same, or they were scored in different ways.
        """
        from discffusion.explaining.difference import difference

        return difference(self, other)

    def plot(self) -> Any:
        """All of it as one matplotlib Figure: the maps of the words, and what layers, timesteps and heads add.

        Raises:
            InstallationError: matplotlib is not installed.
        """
        from discffusion.plot import explained

        return explained.overview(self)

    def overlay(
        self,
        word: str | int | Word,
        nth: int | None = None,
        *,
        normalise: Normalise | None = DEFAULT_NORMALISE,
        **where: Any,
    ) -> Any:
        """The image with the map of a word over it, as a matplotlib Figure; arguments as of :meth:`map_of`."""
        from discffusion.plot import explained

        return explained.overlay(self, word, nth, normalise=normalise, **where)

    def plot_words(self, *, columns: int = 5, normalise: Normalise | None = DEFAULT_NORMALISE) -> Any:
        """The maps of all words side by side, at most `columns` in a row, as a matplotlib Figure.

        Raises:
            ConfigError: `columns` is less than 1.
        """
        from discffusion.plot import explained

        if columns < 1:
            raise ConfigError(f"columns is {columns}; expected at least 1")
        return explained.words(self, columns, normalise)

    def plot_layers(self) -> Any:
        """What layers add at each timestep, and their heads in all, as heat maps on a matplotlib Figure."""
        from discffusion.plot import explained

        return explained.layers(self)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the maps as plain data."""
        from discffusion.explaining.files import as_dict

        return as_dict(self)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes ``explanation.json`` (numbers), ``explanation.npz`` (arrays) and the pictures ``overview.png``,
        ``words.png`` and ``layers.png`` to a folder, which is made if need be; each file whole or not at all.

        Raises:
            InstallationError: matplotlib is not installed.
            DiscffusionError: a file cannot be written.
        """
        from discffusion.explaining.files import save

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
        from discffusion.explaining.files import as_html

        return as_html(self, self._png)

    @cached_property
    def _png(self) -> bytes | None:
        from discffusion.plot.figure import png

        try:
            return png(self.plot())
        except InstallationError:  # then the numbers alone are shown
            return None

    @property
    def _size(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]

    def _find(self, word: str | int | Word, nth: int | None) -> tuple[str, tuple[int, ...]]:
        return find(word, nth, self.words, self.tokens)

    def _grid_maps(self, layer: str | None, head: int | None, timestep: int | None) -> NDArray[np.float32]:
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


def explain(
    scorer: Scorer,
    image: Any,
    text: Any,
    map: str,
    sites: str | Sequence[str],
    noise: Any,
    progress: Progress,
) -> Explanation:
    """See :meth:`Scorer.explain`."""
    texts = checked_texts(text)
    if not is_single(image) or len(texts) != 1:
        raise ConfigError("explain takes one image and one text")
    if not isinstance(map, str):
        raise ConfigError(f"map is {map!r}; expected 'probs', 'logits' or 'cosine'")
    given = checked_noise(noise, ("steps", "C", "h", "w"))
    model, prepared = scorer._model, prepare(image)
    core = _native.core()
    with reporting(progress) as report:
        found = core.explain(
            model, prepared, texts[0], map, _layers(scorer, sites), scorer.config.to_json(), given, report
        )
    pixels = core.decode_image(prepared) if isinstance(prepared, bytes) else prepared
    height, width = pixels.shape[:2]
    scale = min(1.0, LONGEST / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    shown = pixels if size == (height, width) else core.preprocess_image(pixels, *size, None, "squash")
    left, top, right, bottom = found["view"]
    across, down = size[1] / width, size[0] / height
    steps = len(found["timesteps"])
    tokens = tokens_of(texts[0], Tokens.from_core(found["tokens"]))
    return Explanation(
        image=shown,
        text=texts[0],
        score=float(found["scores"].mean()),
        tokens=tokens,
        words=words_of(texts[0], tokens),
        timesteps=tuple(found["timesteps"]),
        contributions=found["contributions"],
        places=found["places"],
        denoising_per_timestep=found["denoising"] / steps,
        layer_maps=found["maps"],
        timestep_maps=found["by_timestep"],
        view=(left * across, top * down, right * across, bottom * down),
        map=map,
        settings=scorer.describe(),
    )


def _layers(scorer: Scorer, sites: str | Sequence[str]) -> str:
    """As the option ``layers`` says it, in JSON."""
    if isinstance(sites, str):
        return json.dumps([sites] if sites in (site["name"] for site in scorer.info()["sites"]) else sites)
    return json.dumps([str(site) for site in sites])


def _unit(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each map ``[…, H, W]`` from 0 to 1; zeros where it is the same everywhere."""
    low = np.nanmin(maps, axis=(-2, -1), keepdims=True)
    span = np.nanmax(maps, axis=(-2, -1), keepdims=True) - low
    found: NDArray[np.float32] = (maps - low) / np.where(span > 0, span, 1)
    return found
