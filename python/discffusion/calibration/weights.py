"""How much each step, layer and head counts in a score."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion.calibration.observations import Numbers, Observations
from discffusion.errors import ConfigError

__all__ = ["ALL", "OVER", "Weights"]

#: what weights differ by where nothing is said
OVER = ("steps", "layers", "heads", "maps", "error")
#: what they may differ by; ``"prior"`` takes three more evaluations of every text at each step
ALL = (*OVER, "prior")


@dataclass(frozen=True, eq=False, kw_only=True)
class Weights:
    """A score: the weighted sum of pooled maps and of errors, less `prior_weight` times that of the text alone.

    Attributes:
        layers: names of the layers that count.
        heads: how many heads each has.
        levels: noise level of each step that counts, 0 to 1.
        map: kind of the maps; None where attention does not count.
        attention: float64 ``[steps, layers, heads]`` in units of 1 / pooled map, 0 where a layer has no such head; None
            without a map.
        error: float64 ``[steps]`` in units of 1 / error; None where the error does not count.
        prior_weight: of the score that a pair's text has with an image that shows nothing.
    """

    layers: tuple[str, ...]
    heads: tuple[int, ...]
    levels: tuple[float, ...]
    map: str | None = None
    attention: NDArray[np.float64] | None = None
    error: NDArray[np.float64] | None = None
    prior_weight: float = 0.0

    def __post_init__(self) -> None:
        if len(self.heads) != len(self.layers):
            raise ConfigError(f"heads are of {len(self.heads)} layers, layers are {len(self.layers)}")
        if (self.map is None) != (self.attention is None):
            raise ConfigError("weights of attention need a kind of map, and a kind of map needs weights")
        shape = (len(self.levels), len(self.layers), max(self.heads, default=0))
        for name, array, expected in (("attention", self.attention, shape), ("error", self.error, shape[:1])):
            if array is not None and array.shape != expected:
                raise ConfigError(
                    f"weights of {name} have the shape {list(array.shape)}; expected {list(expected)}"
                )
            if array is not None and not np.isfinite(array).all():
                raise ConfigError(f"weights of {name} hold NaN or infinity; expected finite values")
        if not math.isfinite(self.prior_weight):
            raise ConfigError(f"prior_weight is {self.prior_weight}; expected a finite number")

    @classmethod
    def even(cls, observed: Observations, map: str | None = None, layers: tuple[str, ...] = ()) -> Weights:
        """The mean over all steps, and over the heads of `layers`, or of the error where `map` is None."""
        steps = len(observed.levels)
        attention = None if map is None else np.zeros((steps, len(observed.layers), max(observed.heads)))
        if attention is not None:
            for place in _places(layers, observed.layers, "layer"):
                heads = observed.heads[place]
                attention[:, place, :heads] = 1 / (steps * len(layers) * heads)
        return cls(
            layers=observed.layers,
            heads=observed.heads,
            levels=observed.levels,
            map=map,
            attention=attention,
            error=np.full(steps, 1 / steps) if map is None else None,
        )

    def score(self, observed: Observations) -> NDArray[np.float64]:
        """The score of each pair, float64 ``[pairs]``; steps are found by their levels, layers by their names.

        Raises:
            ConfigError: a step, a layer, the kind of map, the error or the prior was not observed.
        """
        steps = _places(self.levels, observed.levels, "noise level")
        layers = _places(self.layers, observed.layers, "layer")
        if self.heads != tuple(observed.heads[place] for place in layers):
            raise ConfigError("the weights are of layers with another number of heads")
        score = self._of(observed, steps, layers)
        if self.prior_weight != 0:
            if observed.prior is None:
                raise ConfigError("the weights need the prior, which was not observed")
            score = score - self.prior_weight * self._of(observed.prior, steps, layers)
        return score

    def _of(self, numbers: Numbers, steps: list[int], layers: list[int]) -> NDArray[np.float64]:
        score: NDArray[np.float64] = np.zeros(())
        if self.attention is not None and self.map is not None:
            if self.map not in numbers.attention:
                raise ConfigError(
                    f"the map {self.map!r} was not observed; there is: {', '.join(numbers.attention)}"
                )
            pooled = numbers.attention[self.map]
            heads = self.attention.shape[2]
            for place, step in enumerate(steps):  # one step at a time holds little memory
                part = pooled[:, step, layers, :heads].astype(np.float64)
                score = score + np.tensordot(part, self.attention[place], 2)
        if self.error is not None:
            if numbers.error is None:
                raise ConfigError("the weights need the error, which was not observed")
            score = score + numbers.error[:, steps] @ self.error
        return score

    def by_layer(self) -> dict[str, NDArray[np.float64]]:
        """The weights of attention by layer, float64 ``[steps, heads]``; empty where attention does not count."""
        if self.attention is None:
            return {}
        return {
            name: np.ascontiguousarray(self.attention[:, place, :heads])
            for place, (name, heads) in enumerate(zip(self.layers, self.heads, strict=True))
        }

    def pruned(self) -> Weights:
        """The same score, without the steps and layers that have no weight: what need not be computed."""
        steps = np.zeros(len(self.levels), bool)
        layers: list[int] = []
        attention, error = self.attention, self.error
        if attention is not None and not attention.any():
            attention = None
        if error is not None and not error.any():
            error = None
        if attention is not None:
            steps |= attention.any(axis=(1, 2))
            layers = np.flatnonzero(attention.any(axis=(0, 2))).tolist()
        if error is not None:
            steps |= error != 0
        heads = tuple(self.heads[place] for place in layers)
        return Weights(
            layers=tuple(self.layers[place] for place in layers),
            heads=heads,
            levels=tuple(np.asarray(self.levels)[steps].tolist()),
            map=None if attention is None else self.map,
            attention=None if attention is None else attention[steps][:, layers, : max(heads)],
            error=None if error is None else error[steps],
            prior_weight=self.prior_weight,
        )

    def to_arrays(self) -> tuple[dict[str, NDArray[np.float64]], dict[str, Any]]:
        """The weights as arrays, and the rest as what JSON takes; :meth:`from_arrays` reads both."""
        arrays = {name: getattr(self, name) for name in ("attention", "error")}
        about = {
            "layers": list(self.layers),
            "heads": list(self.heads),
            "levels": list(self.levels),
            "map": self.map,
            "prior_weight": self.prior_weight,
        }
        return {name: array for name, array in arrays.items() if array is not None}, about

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.float64]], about: Mapping[str, Any]) -> Weights:
        """What :meth:`to_arrays` gave.

        Raises:
            ConfigError: something is missing, unknown, of another type or of another shape.
        """
        unknown = sorted(arrays.keys() - {"attention", "error"})
        if unknown:
            raise ConfigError(f"there are no weights of {', '.join(unknown)}")
        try:
            return cls(
                layers=tuple(str(name) for name in about["layers"]),
                heads=tuple(int(count) for count in about["heads"]),
                levels=tuple(float(level) for level in about["levels"]),
                map=None if about["map"] is None else str(about["map"]),
                prior_weight=float(about["prior_weight"]),
                **{name: np.asarray(array, np.float64) for name, array in arrays.items()},
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"these are no weights of a score: {error!r}") from error


def _places(wanted: tuple[Any, ...], there: tuple[Any, ...], what: str) -> list[int]:
    """Where each of the wanted stands among those that there are."""
    places = {name: place for place, name in enumerate(there)}
    missing = [str(name) for name in wanted if name not in places]
    if missing:
        raise ConfigError(
            f"{what} {', '.join(missing)} was not observed; there is: {', '.join(map(str, there))}"
        )
    return [places[name] for name in wanted]
