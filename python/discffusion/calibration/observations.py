"""What was observed of labelled pairs: numbers of every step, layer and head, and which pairs are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from discffusion.errors import ConfigError

__all__ = ["MAPS", "Numbers", "Observations"]

#: kinds of map that are observed where nothing is said: those of the presets attention and release
MAPS = ("cosine", "logits")


@dataclass(frozen=True, eq=False, kw_only=True)
class Numbers:
    """Numbers of pairs at each step; larger is better.

    Attributes:
        attention: by kind of map, those that were observed, float32 ``[pairs, steps, layers, heads]``: pooled maps
            (Eq. 4). The last axis is as long as the layer of most heads needs; a layer with fewer is padded with 0.
        error: float64 ``[pairs, steps]``: the error of the denoising without the text less that with it; None where it
            was not observed.
    """

    attention: Mapping[str, NDArray[np.float32]]
    error: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Observations(Numbers):
    """Numbers of labelled pairs, and the comparisons among them that a score should get right.

    Attributes:
        prior: of each pair's text with an image that shows nothing; None where it was not observed.
        layers: names of the layers.
        heads: how many heads each layer has.
        levels: noise level of each step, 0 to 1.
        comparisons: int64 ``[c, 2]``: a pair that matches, and one that does not and shares its image or its text.
        groups: int64 ``[c]``: image group of each comparison. Cross-validation never splits a group.
        labels: bool ``[pairs]``: which pairs match.
        pair_groups: int64 ``[pairs]``: image group of each pair.
        of_image: bool ``[c]``: whether the two pairs of a comparison share their image, so that texts are compared, or
            else their text; None if that is not known.

    Raises:
        ConfigError: shapes differ, a number is not finite, nothing was observed or compared, or a comparison is not of
            a matching with another pair of its group.
    """

    prior: Numbers | None = None
    layers: tuple[str, ...]
    heads: tuple[int, ...]
    levels: tuple[float, ...]
    comparisons: NDArray[np.int64]
    groups: NDArray[np.int64]
    labels: NDArray[np.bool_]
    pair_groups: NDArray[np.int64]
    of_image: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        self._check_numbers(self, "")
        if self.prior is not None:
            self._check_numbers(self.prior, "prior ")
            if self.attention.keys() != self.prior.attention.keys():
                raise ConfigError("the prior was not observed with the same kinds of map as the pairs")
            if (self.error is None) != (self.prior.error is None):
                raise ConfigError("the error was observed of the pairs or of the prior alone; it takes both")
        if not self.attention and self.error is None:
            raise ConfigError("nothing was observed: neither attention nor error")
        pairs = len(self.labels)
        _same("pair_groups", self.pair_groups.shape, (pairs,))
        _same("comparisons", self.comparisons.shape, (len(self.groups), 2))
        if self.of_image is not None:
            _same("of_image", self.of_image.shape, (len(self.groups),))
        if len(self.groups) == 0:
            raise ConfigError("there are no comparisons")
        if self.comparisons.min() < 0 or self.comparisons.max() >= pairs:
            raise ConfigError(f"a comparison names a pair that is not among the {pairs}")
        matching, other = self.labels[self.comparisons].T
        if not matching.all() or other.any():
            raise ConfigError("a comparison is not of a matching pair with one that does not match")
        if (self.pair_groups[self.comparisons] != self.groups[:, None]).any():
            raise ConfigError("a comparison is not of its image group's own pairs")

    def _check_numbers(self, numbers: Numbers, whose: str) -> None:
        if len(self.heads) != len(self.layers):
            raise ConfigError(f"heads are of {len(self.heads)} layers, layers are {len(self.layers)}")
        pairs, steps = len(self.labels), len(self.levels)
        shape = (pairs, steps, len(self.layers), max(self.heads, default=0))
        for kind, pooled in numbers.attention.items():
            _same(f"{whose}attention of {kind}", pooled.shape, shape)
            _finite(f"{whose}attention of {kind}", pooled)
        if numbers.error is not None:
            _same(f"{whose}error", numbers.error.shape, (pairs, steps))
            _finite(f"{whose}error", numbers.error)


def _same(name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if shape != expected:
        raise ConfigError(f"{name} has the shape {list(shape)}; expected {list(expected)}")


def _finite(name: str, array: NDArray[np.floating]) -> None:
    if not np.isfinite(array).all():
        raise ConfigError(f"{name} holds NaN or infinity; expected finite values")
