"""A score that was fitted to labelled pairs, with the probability of a match: :class:`Calibration`."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from discffusion import _native
from discffusion._files import write_bytes
from discffusion._identity import difference
from discffusion._safetensors import pack, unpack
from discffusion._version import __version__
from discffusion.calibration.weights import Weights
from discffusion.errors import ConfigError
from discffusion.evaluation.metrics.logistic import Logistic

if TYPE_CHECKING:
    from discffusion.config import ScoreConfig

__all__ = ["Calibration"]

#: key of the metadata that says the number of the format
_MARK = "discffusion_calibration"
_FORMAT = "1"
#: bytes; no calibration is as large, and what is larger is not read
_MOST = 1 << 28
#: what :meth:`Scorer.describe` says that has to be the same wherever a calibration is used
_SAME = ("parts", "prediction_type", "deltas", "score_version", "preprocess_version")


@dataclass(frozen=True, eq=False, kw_only=True)
class Calibration:
    """Weights of steps, layers and heads, and the curve from their score to the probability of a match.

    Made by :meth:`Scorer.calibrate` or :meth:`load`; used by :meth:`Scorer.with_calibration`. ``print`` shows what it
    is worth. It belongs to one model with one set of deltas.

    Attributes:
        weights: of the score; None if no weights are better than the score before, which then stays as it was.
        config: the configuration of the score: ``method="calibrated"``, or without weights that of the score before.
        slope, offset: of the probability ``1 / (1 + exp(-(slope · score + offset)))``; the slope is above 0.
        scorer: what the scorer that was calibrated says of itself, see :meth:`Scorer.describe`; its ``"config"`` is the
            score before.
        report: what it was fitted to, and what it is worth, as plain data; see
            :func:`discffusion.calibration.report.report_of`.

    Raises:
        ConfigError: the weights do not belong to the configuration, or the curve does not rise.
    """

    weights: Weights | None
    config: ScoreConfig
    slope: float
    offset: float
    scorer: Mapping[str, Any]
    report: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.weights is None:
            if self.config.method == "calibrated":
                raise ConfigError("a configuration with the method 'calibrated' needs weights")
        else:
            self._check_weights(self.weights)
        if not (math.isfinite(self.slope) and self.slope > 0 and math.isfinite(self.offset)):
            raise ConfigError(
                f"slope is {self.slope} and offset is {self.offset}; expected finite numbers, a slope above 0"
            )

    def _check_weights(self, weights: Weights) -> None:
        expected: dict[str, Any] = {"method": "calibrated", "heads": "mean", "noise_levels": weights.levels}
        if weights.prior_weight == 0:
            expected["prior"] = None
        else:
            expected |= {"prior": "null", "prior_weight": weights.prior_weight}
        if weights.map is not None:
            expected |= {"map": weights.map, "layers": weights.layers}
        for name, value in expected.items():
            found = getattr(self.config, name)
            if found != value:
                raise ConfigError(f"{name} of the configuration is {found!r}; the weights need {value!r}")

    def applies(self, config: ScoreConfig) -> bool:
        """Whether scores of a configuration are those that the curve belongs to.

        ``batch_size``, ``truncate`` and ``seed`` make no difference.
        """
        own = self.config
        return config.replace(batch_size=own.batch_size, truncate=own.truncate, seed=own.seed) == own

    def probability(self, scores: Any) -> NDArray[np.float64]:
        """The probability of a match for calibrated scores, 0 to 1, float64 of the same shape."""
        return Logistic(self.slope, self.offset)(np.asarray(scores, np.float64))

    @property
    def before(self) -> ScoreConfig:
        """The configuration of the scorer that was calibrated."""
        config: ScoreConfig = _native.core().ScoreConfig.from_dict(self.scorer["config"])
        return config

    @cached_property
    def digest(self) -> str:
        """A hash of weights and curve: equal exactly if they are, bit for bit."""
        arrays, about = _as_arrays(self.weights)
        curve = {"slope": self.slope, "offset": self.offset}
        return _digest(arrays, json.dumps({**(about or {}), **curve}, sort_keys=True))

    def check(self, facts: Mapping[str, Any]) -> None:
        """Refuses another scorer than the one that was calibrated.

        Args:
            facts: what it says of itself, see :meth:`Scorer.describe`.

        Raises:
            ConfigError: it has another model or deltas, or this release computes other numbers; says what differs.
        """
        own, other = ({name: of.get(name) for name in _SAME} for of in (self.scorer, facts))
        text = difference(own, other)
        if text is not None:
            raise ConfigError(
                f"the calibration belongs to another scorer: {text}; calibrate this one by scorer.calibrate(items)"
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes one safetensors file; a crash leaves the old one or the new one.

        Raises:
            DiscffusionError: it cannot be written.
        """
        write_bytes(Path(path).expanduser(), self.to_bytes())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Calibration:
        """Reads what :meth:`save` wrote.

        Raises:
            ConfigError: the file cannot be read, is damaged, or holds something else.
        """
        if not isinstance(path, str | os.PathLike):
            raise ConfigError(f"a calibration is loaded from a path, not {type(path).__name__}")
        file = Path(os.fsdecode(path)).expanduser()
        try:
            size = file.stat().st_size
            if size > _MOST:
                raise ConfigError(f"{file} is no calibration: it has {size} bytes")
            data = file.read_bytes()
        except (OSError, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"the calibration {str(file)!r} cannot be read: {reason}") from None
        try:
            return cls.from_bytes(data)
        except ConfigError as error:
            raise ConfigError(f"{file}: {error}") from None

    def to_bytes(self) -> bytes:
        """What :meth:`save` writes."""
        arrays, weights = _as_arrays(self.weights)
        about = json.dumps(
            {
                "weights": weights,
                "config": self.config.to_dict(),
                "slope": self.slope,
                "offset": self.offset,
                "scorer": self.scorer,
                "report": self.report,
                "version": __version__,
            },
            allow_nan=False,
        )
        return pack(arrays, {_MARK: _FORMAT, "about": about, "digest": _digest(arrays, about)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Calibration:
        """What :meth:`to_bytes` gave.

        Raises:
            ConfigError: it is damaged, of a newer release, or something else.
        """
        try:
            arrays, metadata = unpack(data)
        except ValueError as error:
            raise ConfigError(f"is no calibration: {error}") from None
        if _MARK not in metadata:
            raise ConfigError(
                f"is no calibration: its metadata has no {_MARK!r} (deltas are for Scorer.load_deltas)"
            )
        if metadata[_MARK] != _FORMAT:
            raise ConfigError(
                f"has the format {metadata[_MARK]!r}; this release reads {_FORMAT!r}, use a newer one"
            )
        text = metadata.get("about", "")
        if metadata.get("digest") != _digest(arrays, text):
            raise ConfigError("is damaged: its checksum is not that of its content")
        try:
            about = json.loads(text)
            return cls(
                weights=None if about["weights"] is None else Weights.from_arrays(arrays, about["weights"]),
                config=_native.core().ScoreConfig.from_dict(about["config"]),
                slope=float(about["slope"]),
                offset=float(about["offset"]),
                scorer=about["scorer"],
                report=about["report"],
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"is no calibration: {error!r}") from None

    def __str__(self) -> str:
        from discffusion.calibration.report import in_markdown

        return in_markdown(self.report)

    def __repr__(self) -> str:
        weights = self.weights
        parts = [repr(self.report.get("model"))]
        if weights is None:
            return f"Calibration({parts[0]}, the score as it is)"
        if weights.map is not None:
            parts.append(f"map={weights.map!r}, {len(weights.layers)} layers")
        if weights.error is not None:
            parts.append("error")
        return f"Calibration({', '.join(parts)}, {len(weights.levels)} steps)"

    def __copy__(self) -> Calibration:
        return self  # it does not change

    def __deepcopy__(self, memo: dict[int, Any]) -> Calibration:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Calibration.from_bytes, (self.to_bytes(),)


def _as_arrays(weights: Weights | None) -> tuple[dict[str, NDArray[np.float64]], dict[str, Any] | None]:
    return ({}, None) if weights is None else weights.to_arrays()


def _digest(arrays: Mapping[str, NDArray[np.float64]], text: str) -> str:
    sha = hashlib.sha256(f"{text}\n".encode())
    for name, array in sorted(arrays.items()):
        sha.update(f"{name} {array.shape}\n".encode())
        sha.update(np.ascontiguousarray(array, "<f8").tobytes())
    return sha.hexdigest()[:32]
