"""Numbers of labelled items for a fit, from a scorer: a pass of the network for each kind of map."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from discffusion import _native
from discffusion._progress import Progress, reporting
from discffusion.calibration.observations import MAPS, Numbers, Observations
from discffusion.data.items import comparable
from discffusion.errors import ConfigError
from discffusion.evaluation.items import EvaluationItem, EvaluationItems
from discffusion.evaluation.record import Record, clusters_of
from discffusion.evaluation.scoring import Scoring

if TYPE_CHECKING:
    from discffusion.config import ScoreConfig
    from discffusion.data.item import MatchItem
    from discffusion.observation import HeadScores
    from discffusion.scorer import Scorer

__all__ = ["LEVELS", "Observed", "Wanted", "checked_maps", "observe", "observed", "pooled"]

#: noise levels, evenly spaced: those at which it was first measured what weights gain
LEVELS = (0.81, 0.73, 0.65, 0.57, 0.49, 0.41, 0.33, 0.25, 0.17, 0.09)
#: preset whose pooling a kind of map has, if it is not the kind of the scorer's own configuration
_PRESETS = {"cosine": "attention", "logits": "release", "probs": "paper"}


class Wanted(NamedTuple):
    """What is observed.

    Attributes:
        maps: kinds of map.
        levels: noise levels, 0 to 1.
        prior: whether what texts have without an image is.
        scores: whether the scorer's own scores are.
    """

    maps: tuple[str, ...]
    levels: tuple[float, ...]
    prior: bool = False
    scores: bool = False


class Observed(NamedTuple):
    """Numbers of items.

    Attributes:
        observations: the numbers.
        scores: float64 ``[pairs]``, the scorer's own, where they are no weighted sum of the numbers; None elsewhere.
        name: of the data.
        items: how many there are.
        digest: of keys, texts, matches and images.
    """

    observations: Observations
    scores: NDArray[np.float64] | None
    name: str
    items: int
    digest: str


def observe(
    scorer: Scorer,
    items: Iterable[MatchItem],
    *,
    maps: Sequence[str] = MAPS,
    levels: Sequence[float] | None = None,
    prior: bool = False,
    progress: Progress = None,
) -> Observations:
    """The pooled maps of all heads and the denoising term, of every image with every text of labelled items.

    Every matching pair of an item is compared with each that does not match and shares its image or its text. Pairs of
    different items are never compared: nobody said that they do not match. Items with nothing to compare are left out.

    Args:
        scorer: whose numbers. Its configuration says what is not named here. A kind of map that is not that of the
            configuration is pooled as the preset that is made of it (see :func:`pooled`). ``heads`` and ``prior`` do
            not matter, since numbers are those of single heads, without a prior.
        items: any iterable of :class:`MatchItem`; they are scored a few at a time.
        maps: kinds of map; none for the denoising term alone. Each takes a pass of the network.
        levels: noise levels, 0 to 1; None for :data:`LEVELS`.
        prior: whether what texts have without an image is observed too, which takes as long as three more images with
            each text.
        progress: True, False, or a function of ``(done, total)`` in items; None shows a bar if somebody watches.

    Raises:
        ConfigError: a kind of map or a noise level is unknown, or nothing can be compared.
        DatasetError: there are no items, or one is malformed.
        ImageError: an image cannot be read; names the item.
    """
    wanted = Wanted(tuple(maps), tuple(LEVELS if levels is None else levels), prior)
    return observed(scorer, items, wanted, 1, progress).observations


def observed(
    scorer: Scorer,
    items: Iterable[MatchItem],
    wanted: Wanted,
    least: int,
    progress: Progress,
) -> Observed:
    """See :func:`observe`.

    Args:
        least: items with something to compare that there have to be.
    """
    scorers = _scorers(scorer, wanted)
    entries = EvaluationItems(items, None)
    # before the network runs for hours
    total = sum(1 for item in entries.items() if any(comparable(item.match)))
    if total < least:
        raise ConfigError(
            f"{total} of {len(entries)} items have a matching pair, and another of its image or text that does not "
            f"match; {least} or more are needed"
        )
    kept = (entry for entry in entries if any(comparable(entry.item.match)))
    parts: list[list[HeadScores]] = []
    own: list[NDArray[np.float64]] = []
    records: list[Record] = []
    sha = hashlib.sha256()
    with reporting(progress, "item") as report:
        for block in Scoring(scorer, None).blocks(kept):

            def tell(share: float, size: int = len(block), done: int = len(records)) -> None:
                if report is not None:
                    report(done + share * size, total)

            parts.append(_numbers(scorers, block, tell))
            if wanted.scores:
                own.append(_own_scores(scorer, block))
            for entry in block:
                item = entry.item
                records.append(
                    Record(item.key, np.zeros(item.match.shape), item.match, None, entry.references)
                )
                told = [item.key, list(item.texts), item.match.tolist(), list(entry.digests)]
                sha.update(json.dumps(told).encode() + b"\n")
    maps = wanted.maps
    kinds = {layer["name"]: int(layer["heads"]) for layer in scorer.info()["layers"]} if maps else {}
    heads = max(kinds.values(), default=0)
    priors = [[part.prior for part in block if part.prior is not None] for block in parts]
    sizes = [record.match.size for record in records]
    cluster = clusters_of(records).astype(np.int64)
    starts = np.cumsum([0, *sizes[:-1]])
    pairs = [comparisons(record.match) for record in records]
    observations = Observations(
        **vars(_joined(maps, parts, heads)),
        prior=_joined(maps, priors, heads) if wanted.prior else None,
        layers=tuple(kinds),
        heads=tuple(kinds.values()),
        levels=tuple(float(level) for level in wanted.levels),
        comparisons=np.concatenate([own + start for own, start in zip(pairs, starts, strict=True)]),
        groups=np.repeat(cluster, [len(own) for own in pairs]),
        labels=np.concatenate([record.match.ravel() for record in records]),
        pair_groups=np.repeat(cluster, sizes),
        of_image=np.concatenate(
            [_share_image(own, record) for own, record in zip(pairs, records, strict=True)]
        ),
    )
    scores = np.concatenate(own) if wanted.scores else None
    return Observed(observations, scores, entries.name, len(records), sha.hexdigest()[:32])


def checked_maps(maps: Sequence[str]) -> tuple[str, ...]:
    """Kinds of map as users give them.

    Raises:
        ConfigError: there is no such kind, or one comes twice.
    """
    unknown = [kind for kind in maps if kind not in _PRESETS]
    if isinstance(maps, str) or unknown or len(set(maps)) < len(maps):
        raise ConfigError(f"maps is {maps!r}; expected some of: {', '.join(_PRESETS)}")
    return tuple(maps)


def pooled(config: ScoreConfig, map: str) -> dict[str, Any]:
    """The options by which maps of a kind are pooled.

    Those of `config`, if that is its own kind. One λ does not suit all kinds: cosines lie between -1 and 1 and are
    pooled with λ = 10, logits are ten times as large and are pooled with 1. So another kind has the options of the
    preset that is made of it: ``attention`` of cosines, ``release`` of logits, ``paper`` of probabilities.
    """
    source = config if config.map == map else _native.core().ScoreConfig.preset(_PRESETS[map])
    return {"map": map, "pooling": source.pooling, "lambda_": source.lambda_}


def comparisons(match: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Of ``[n_images, n_texts]``, every matching pair with each other of its row or column, int64 ``[c, 2]``.

    Pairs are places in the flat array.
    """
    place = np.arange(match.size).reshape(match.shape)
    found = [np.zeros((0, 2), np.int64)]
    for i, j in np.argwhere(match):
        others = np.concatenate([place[i, ~match[i]], place[~match[:, j], j]])
        found.append(np.stack([np.full_like(others, place[i, j]), others], axis=1))
    return np.concatenate(found)


def _share_image(compared: NDArray[np.int64], record: Record) -> NDArray[np.bool_]:
    """Whether the pairs of each comparison of an item have one image."""
    first, second = (compared // record.match.shape[1]).T
    shared: NDArray[np.bool_] = first == second
    return shared


def _scorers(scorer: Scorer, wanted: Wanted) -> list[Scorer]:
    """A scorer for each pass. The first gives the denoising term too."""
    levels, maps, prior = (
        [float(level) for level in wanted.levels],
        wanted.maps,
        "null" if wanted.prior else None,
    )
    config = scorer.config.replace(heads="mean", prior=prior, noise_levels=levels)
    times = scorer._model.timesteps(config)
    twice = [time for place, time in enumerate(times) if time in times[:place]]
    if twice:
        raise ConfigError(f"two noise levels are the timestep {twice[0]}; a step has one weight")
    if not maps:
        return [scorer.with_config(config, method="denoising")]
    return [
        scorer.with_config(
            config,
            method="attention" if place else "combined",
            denoising_weight=1.0,  # with 0 there is no term
            layers="all",
            **pooled(config, kind),
        )
        for place, kind in enumerate(checked_maps(maps))
    ]


def _numbers(
    scorers: Sequence[Scorer], block: Sequence[EvaluationItem], tell: Callable[[float], None]
) -> list[HeadScores]:
    """All pairs of a block, by every scorer; images and texts that come twice are encoded once.

    A prior has the numbers of each pair's text.
    """
    images, texts, pairs = _request(block)
    found = []
    for place, scorer in enumerate(scorers):

        def part(done: int, total: int, place: int = place) -> None:
            tell((place + done / total) / len(scorers))

        numbers = scorer.head_scores(images, texts, pairs, progress=part)
        if numbers.prior is not None:
            of_text = numbers.prior.select(np.array([text for _, text in pairs], np.intp))
            numbers = replace(numbers, prior=of_text)
        found.append(numbers)
    return found


def _own_scores(scorer: Scorer, block: Sequence[EvaluationItem]) -> NDArray[np.float64]:
    return scorer.score_pairs(*_request(block), progress=False)


def _request(block: Sequence[EvaluationItem]) -> tuple[list[Any], list[str], list[tuple[int, int]]]:
    """Images, texts, and all pairs of each item, row by row."""
    images = [image for entry in block for image in entry.images]
    texts = [text for entry in block for text in entry.texts]
    pairs: list[tuple[int, int]] = []
    first = [0, 0]
    for entry in block:
        shape = entry.item.match.shape
        pairs += [(first[0] + i, first[1] + j) for i, j in np.ndindex(shape)]
        first = [first[0] + shape[0], first[1] + shape[1]]
    return images, texts, pairs


def _joined(maps: Sequence[str], blocks: Sequence[Sequence[HeadScores]], heads: int) -> Numbers:
    """The numbers of all blocks, each of which has those of every pass."""
    passes = list(zip(*blocks, strict=True))
    errors = [part.denoising for part in passes[0] if part.denoising is not None]
    return Numbers(
        attention={kind: _padded(parts, heads) for kind, parts in zip(maps, passes, strict=False)},
        error=np.concatenate(errors) if errors else None,
    )


def _padded(parts: Sequence[HeadScores], heads: int) -> NDArray[np.float32]:
    """float32 ``[pairs, steps, layers, heads]``; layers with fewer heads are padded with 0."""
    attention = []
    for part in parts:
        of_layers = [
            np.pad(numbers, ((0, 0), (0, 0), (0, heads - numbers.shape[2])))
            for numbers in part.layers.values()
        ]
        attention.append(np.stack(of_layers, axis=2))
    return np.concatenate(attention)
