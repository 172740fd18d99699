"""How a score is computed: :class:`ScoreConfig`. Rules and defaults live in the core and are not repeated here."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

from discffusion import _native
from discffusion._registry import did_you_mean
from discffusion.errors import ConfigError

__all__ = ["ScoreConfig"]

_TIMES = ("steps", "timesteps", "noise_levels")


class _CoreDefault:
    def __repr__(self) -> str:
        return "<default>"


# Any, so that each field keeps its own type; the core replaces it with its default
_DEFAULT: Final[Any] = _CoreDefault()


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """How a score is computed. Frozen, comparable, hashable and JSON-able; an option left out has the core's default.

    Attributes:
        method: What the score is made of.
        denoising_weight: Weight of the denoising term where method is combined; 0 or more.
        denoising_error: How far a prediction is from its target.
        unconditional: Whether the denoising error is compared with that for the empty text.
        map: Which cross-attention map is pooled.
        pooling: How a map becomes a number.
        lambda_: Sharpness of LogSumExp pooling; 1e-6 to 1e6.
        tokens: Which text tokens are pooled: all, or the prompt's own.
        layers: Which cross-attention layers count; or a list of layers such as down.0.1, mid.0, up.3.2.
        heads: How the heads of a layer are averaged; or a list of head indices.
        attribution: How heads are weighted where heads is attributed.
        attribution_steps: Steps of the integral where attribution is integrated; 1 to 1000.
        steps: Number of timesteps that are averaged: evenly spaced noise levels of noise_range.
        noise_range: Lowest and highest noise level that steps are spread over; none: the model's whole DDIM schedule.
        timesteps: Timesteps that are averaged, instead of steps; 0 is clean.
        noise_levels: Noise levels between 0 and 1 that are averaged, instead of steps.
        resolution: Side of the square that images are brought to, pixels; default: the model's own.
        via: Side that images are brought to first, pixels (Table 1 of the paper).
        resize: How images become square.
        batch_size: Evaluations of the network at a time; never changes a score.
        truncate: What to do with texts longer than the model reads.
        seed: Seed of the noise; 0 or more.

    Raises:
        ConfigError: an option is unknown or out of range; the message names it.
    """

    method: Literal["attention", "denoising", "combined"] = _DEFAULT
    denoising_weight: float = _DEFAULT
    denoising_error: Literal["norm", "mse"] = _DEFAULT
    unconditional: bool = _DEFAULT
    map: Literal["probs", "logits", "cosine"] = _DEFAULT
    pooling: Literal["lse", "max_row", "max_col", "mean"] = _DEFAULT
    lambda_: float = _DEFAULT
    tokens: Literal["all", "content"] = _DEFAULT
    layers: str | Sequence[str] = _DEFAULT
    heads: str | Sequence[int] = _DEFAULT
    attribution: Literal["local", "full", "integrated", "elementwise"] = _DEFAULT
    attribution_steps: int = _DEFAULT
    steps: int | None = None
    noise_range: tuple[float, float] | None = _DEFAULT
    timesteps: Sequence[int] | None = None
    noise_levels: Sequence[float] | None = None
    resolution: int | None = None
    via: int | None = None
    resize: Literal["squash", "crop"] = _DEFAULT
    batch_size: int | Literal["auto"] = _DEFAULT
    truncate: Literal["error", "warn", "silent"] = _DEFAULT
    seed: int = _DEFAULT

    if (
        not TYPE_CHECKING
    ):  # an unknown option is a ConfigError here as everywhere, not the TypeError of __init__

        def __new__(cls, *args: Any, **fields: Any) -> ScoreConfig:
            if args:
                raise ConfigError("options are given by name; for a preset use ScoreConfig.preset(name)")
            _check_names(fields)
            return super().__new__(cls)

    def __post_init__(self) -> None:
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        given = {
            name: _plain(name, value)
            for name, value in given.items()
            if value is not _DEFAULT and not (value is None and name in _TIMES)
        }
        full = json.loads(_native.core().config_check(json.dumps(given)))
        for name, value in full.items():
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)

    @classmethod
    def preset(cls, name: str) -> ScoreConfig:
        """A named configuration.

        ``"default"``; ``"attention"``, the best attention score that was measured on the pocket model; ``"paper"``, the
        method as published; ``"release"``, the authors' released code.
        """
        presets = _presets()
        if name not in presets:
            raise ConfigError(
                f"unknown preset {name!r}; there are {', '.join(preset_names())}{did_you_mean(name, presets)}"
            )
        return cls(**presets[name])

    @classmethod
    def make(cls, config: ScoreConfig | str | Mapping[str, Any] | None = None, **fields: Any) -> ScoreConfig:
        """A configuration from what users give: one, a preset's name, a mapping or None; then changed by `fields`."""
        if config is None:
            base = cls()
        elif isinstance(config, ScoreConfig):
            base = config
        elif isinstance(config, str):
            base = cls.preset(config)
        elif isinstance(config, Mapping):
            base = cls.from_dict(config)
        else:
            raise ConfigError(
                f"config is {type(config).__name__}; expected a ScoreConfig, a preset's name, a mapping or None"
            )
        return base.replace(**fields) if fields else base

    def replace(self, **fields: Any) -> ScoreConfig:
        """A copy with some fields changed.

        One of steps, timesteps and noise_levels takes the others' place. Where it is steps, they are spread over the
        noise_range of this configuration, or over the default one if this configuration named its noise levels.
        """
        _check_names(fields)
        named = [name for name in _TIMES if fields.get(name) is not None]
        if named or fields.get("noise_range") is not None:
            by_range = self.steps is not None and named in ([], ["steps"])
            fields = {
                **dict.fromkeys(_TIMES),
                "steps": self.steps if by_range else None,
                "noise_range": self.noise_range if by_range else _DEFAULT,
                **fields,
            }
        return dataclasses.replace(self, **fields)

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, as plain data (lists, not tuples)."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    def changes(self) -> dict[str, Any]:
        """The fields that differ from the default configuration."""
        default = type(self)().to_dict()
        return {name: value for name, value in self.to_dict().items() if value != default[name]}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ScoreConfig:
        """The configuration with these fields; the others have their defaults.

        One that :meth:`to_dict` wrote before there was `noise_range` means what it meant: the whole schedule.
        """
        _check_names(fields)
        if fields.keys() >= set(_TIMES) and "noise_range" not in fields:
            fields = {**fields, "noise_range": None}
        return cls(**fields)

    def to_json(self) -> str:
        """All fields, in order, as a JSON object."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> ScoreConfig:
        """The configuration that :meth:`to_json` wrote."""
        try:
            fields = json.loads(text)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"not a JSON object of options: {error}") from None
        if not isinstance(fields, dict):
            raise ConfigError(f"expected a JSON object of options, not {type(fields).__name__}")
        return cls.from_dict(fields)


def option_table() -> list[dict[str, Any]]:
    """Every option in order: name, kind, choices, default, help. From the core, for command line and tests."""
    table: list[dict[str, Any]] = json.loads(_native.core().config_options())
    return table


def preset_names() -> list[str]:
    """The names that :meth:`ScoreConfig.preset` takes, the default first."""
    return sorted(_presets(), key=lambda name: name != "default")


def _presets() -> dict[str, dict[str, Any]]:
    presets: dict[str, dict[str, Any]] = json.loads(_native.core().config_presets())
    return presets


def _check_names(fields: Mapping[str, Any]) -> None:
    names = [field.name for field in dataclasses.fields(ScoreConfig)]
    for name in fields:
        if name not in names:
            raise ConfigError(
                f"unknown option {name!r}{did_you_mean(name, names)}; there are {', '.join(names)}"
            )


def _plain(name: str, value: Any) -> Any:
    """`value` as JSON can carry it: no tuples, no numpy scalars, nothing infinite."""
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _refuse(name, value, "a finite number")
    if hasattr(value, "tolist"):  # numpy scalars and arrays, torch tensors
        return _plain(name, value.tolist())
    if isinstance(value, Sequence | range) and not isinstance(value, bytes | bytearray):
        return [_plain(name, item) for item in value]
    return _refuse(name, value, "text, a number or a list")


def _refuse(name: str, value: Any, expected: str) -> NoReturn:
    raise ConfigError(f"{name} is {value!r}; expected {expected}")
