"""ScoreConfig: names, defaults and rules are the core's."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import pickle
import typing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discffusion import ConfigError, ScoreConfig, _native
from discffusion.config import option_table

FIELDS = [field.name for field in dataclasses.fields(ScoreConfig)]
ROWS = {row["name"]: row for row in option_table()}
#: fields that are left out of dictionaries and JSON while they have their defaults
ADDED = (
    "denoising_target",
    "prior",
    "prior_weight",
    "original_size",
    "crops_coords_top_left",
    "target_size",
)
#: the JSON of each preset, as results that were saved hold it
PRESETS = {
    "default": (
        '{"method": "denoising", "denoising_weight": 1.0, "denoising_error": "norm"'
        ', "unconditional": true, "map": "cosine", "pooling": "lse", "lambda_": 10.0'
        ', "tokens": "all", "layers": "last(1)", "heads": "mean", "attribution": "local"'
        ', "attribution_steps": 8, "steps": 10, "noise_range": [0.3, 0.8], "timesteps": null'
        ', "noise_levels": null, "resolution": null, "via": null, "resize": "squash"'
        ', "batch_size": "auto", "truncate": "warn", "seed": 0}'
    ),
    "attention": (
        '{"method": "attention", "denoising_weight": 1.0, "denoising_error": "norm"'
        ', "unconditional": true, "map": "cosine", "pooling": "lse", "lambda_": 10.0'
        ', "tokens": "all", "layers": "last(1)", "heads": "mean", "attribution": "local"'
        ', "attribution_steps": 8, "steps": 10, "noise_range": [0.29, 0.65], "timesteps": null'
        ', "noise_levels": null, "resolution": null, "via": null, "resize": "squash"'
        ', "batch_size": "auto", "truncate": "warn", "seed": 0}'
    ),
    "denoising": (
        '{"method": "denoising", "denoising_weight": 1.0, "denoising_error": "norm"'
        ', "unconditional": true, "map": "cosine", "pooling": "lse", "lambda_": 10.0'
        ', "tokens": "all", "layers": "last(1)", "heads": "mean", "attribution": "local"'
        ', "attribution_steps": 8, "steps": 10, "noise_range": [0.3, 0.8], "timesteps": null'
        ', "noise_levels": null, "resolution": null, "via": null, "resize": "squash"'
        ', "batch_size": "auto", "truncate": "warn", "seed": 0}'
    ),
    "paper": (
        '{"method": "attention", "denoising_weight": 1.0, "denoising_error": "norm"'
        ', "unconditional": true, "map": "probs", "pooling": "lse", "lambda_": 1.0'
        ', "tokens": "all", "layers": "all", "heads": "attributed", "attribution": "local"'
        ', "attribution_steps": 8, "steps": 50, "noise_range": null, "timesteps": null'
        ', "noise_levels": null, "resolution": null, "via": null, "resize": "squash"'
        ', "batch_size": "auto", "truncate": "warn", "seed": 0}'
    ),
    "release": (
        '{"method": "combined", "denoising_weight": 1.0, "denoising_error": "norm"'
        ', "unconditional": true, "map": "logits", "pooling": "lse", "lambda_": 1.0'
        ', "tokens": "all", "layers": "last_blocks", "heads": "mean", "attribution": "local"'
        ', "attribution_steps": 8, "steps": 50, "noise_range": null, "timesteps": null'
        ', "noise_levels": null, "resolution": null, "via": null, "resize": "squash"'
        ', "batch_size": "auto", "truncate": "warn", "seed": 0}'
    ),
}
#: the same of other configurations
OTHERS: dict[str, dict[str, typing.Any]] = {
    (
        '{"method": "denoising", "denoising_weight": 1.0, "denoising_error": "norm"'
        ', "unconditional": true, "map": "cosine", "pooling": "lse", "lambda_": 10.0'
        ', "tokens": "all", "layers": ["down.0.0", "mid.0"], "heads": [1, 0]'
        ', "attribution": "local", "attribution_steps": 8, "steps": null, "noise_range": null'
        ', "timesteps": [10, 20.5, 30], "noise_levels": null, "resolution": null, "via": null'
        ', "resize": "squash", "batch_size": "auto", "truncate": "warn", "seed": 0}'
    ): {"layers": ["down.0.0", "mid.0"], "timesteps": [10, 20.5, 30], "heads": [1, 0]},
    (
        '{"method": "denoising", "denoising_weight": 1.0, "denoising_error": "norm"'
        ', "unconditional": true, "map": "cosine", "pooling": "lse", "lambda_": 10.0'
        ', "tokens": "all", "layers": "last(1)", "heads": "mean", "attribution": "local"'
        ', "attribution_steps": 8, "steps": 4, "noise_range": null, "timesteps": null'
        ', "noise_levels": null, "resolution": null, "via": null, "resize": "squash"'
        ', "batch_size": "auto", "truncate": "warn", "seed": 0}'
    ): {"steps": 4, "noise_range": None},
    (
        '{"method": "denoising", "denoising_weight": 0.1, "denoising_error": "norm"'
        ', "unconditional": true, "map": "cosine", "pooling": "lse", "lambda_": 1e-06'
        ', "tokens": "all", "layers": "last(1)", "heads": "mean", "attribution": "local"'
        ', "attribution_steps": 8, "steps": 10, "noise_range": [0.3, 0.8], "timesteps": null'
        ', "noise_levels": null, "resolution": 256, "via": 64, "resize": "squash"'
        ', "batch_size": 8, "truncate": "warn", "seed": 9223372036854775807}'
    ): {
        "lambda_": 1e-6,
        "denoising_weight": 0.1,
        "seed": 2**63 - 1,
        "batch_size": 8,
        "resolution": 256,
        "via": 64,
    },
}


def test_fields_are_the_cores() -> None:
    assert list(ROWS) == FIELDS


@pytest.mark.parametrize("name", FIELDS)
def test_defaults_choices_and_help_are_the_cores(name: str) -> None:
    row = ROWS[name]
    default = tuple(row["default"]) if isinstance(row["default"], list) else row["default"]
    assert getattr(ScoreConfig(), name) == default
    documented = inspect.getdoc(ScoreConfig)
    assert documented is not None
    assert f" {name}: {row['help']} " in " ".join(documented.split())
    assert inspect.getdoc(getattr(ScoreConfig, name)) == row["help"]
    assert inspect.signature(ScoreConfig).parameters[name].default == default
    if row["kind"] == "choice":
        hint = typing.get_type_hints(ScoreConfig)[name]
        literal, *others = (hint,) if row["null"] is None else typing.get_args(hint)
        assert typing.get_args(literal) == tuple(row["choices"])
        assert others == ([] if row["null"] is None else [type(None)])


@pytest.mark.parametrize("name", ["default", "attention", "denoising", "paper", "release"])
def test_presets(name: str) -> None:
    preset = ScoreConfig.preset(name)
    assert ScoreConfig.make(name) == preset
    assert (preset == ScoreConfig()) == (name in ("default", "denoising"))


def test_paper_preset() -> None:
    paper = ScoreConfig.preset("paper")
    assert (paper.map, paper.pooling, paper.lambda_, paper.layers, paper.tokens) == (
        "probs",
        "lse",
        1.0,
        "all",
        "all",
    )
    assert (paper.heads, paper.attribution, paper.steps) == ("attributed", "local", 50)


def test_is_a_value() -> None:
    one = ScoreConfig(layers=["down.0.0", "mid.0"], timesteps=range(10, 40, 10), heads=[np.int64(1)])
    assert one.layers == ("down.0.0", "mid.0")
    assert one.timesteps == (10, 20, 30)
    assert one.heads == (1,)
    for same in (copy.deepcopy(one), pickle.loads(pickle.dumps(one)), ScoreConfig.from_json(one.to_json())):
        assert same == one
        assert hash(same) == hash(one)
    assert "timesteps=(10, 20, 30)" in repr(one)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.seed = 3  # type: ignore[misc]


def test_json_keeps_the_order_of_fields() -> None:
    """But for those that came later and have their defaults: digests of old results stay."""
    assert list(json.loads(ScoreConfig().to_json())) == [name for name in FIELDS if name not in ADDED]
    full = ScoreConfig(
        prior="null",
        prior_weight=0.25,
        original_size=(512, 640),
        crops_coords_top_left=(0, 8),
        target_size=(64, 64),
    )
    assert list(json.loads(full.to_json())) == FIELDS
    assert ScoreConfig.from_json(full.to_json()) == full != ScoreConfig()


@pytest.mark.parametrize("name", PRESETS)
def test_json_of_presets_stays_to_the_byte(name: str) -> None:
    assert ScoreConfig.preset(name).to_json() == PRESETS[name]


@pytest.mark.parametrize("text", OTHERS)
def test_json_stays_to_the_byte(text: str) -> None:
    assert ScoreConfig(**OTHERS[text]).to_json() == text
    assert ScoreConfig.from_json(text) == ScoreConfig(**OTHERS[text])


def test_sizes_that_a_model_is_conditioned_on() -> None:
    config = ScoreConfig(original_size=[512, 640])
    assert (config.original_size, config.crops_coords_top_left, config.target_size) == (
        (512, 640),
        None,
        None,
    )
    assert config.changes() == {"original_size": [512, 640]}
    assert config.replace(original_size=None) == ScoreConfig()
    for wrong in ({"original_size": [512]}, {"target_size": (0, 1)}, {"crops_coords_top_left": "0,0"}):
        with pytest.raises(
            ConfigError, match=f"{next(iter(wrong))} is .*; expected .* each a number of pixels"
        ):
            ScoreConfig(**wrong)


def test_is_a_dataclass_for_those_who_look() -> None:
    config = ScoreConfig(seed=3)
    assert dataclasses.is_dataclass(config)
    assert dataclasses.replace(config, steps=4) == ScoreConfig(seed=3, steps=4)
    assert dataclasses.asdict(config) == {name: getattr(config, name) for name in FIELDS}


def test_is_a_class_of_the_core() -> None:
    assert ScoreConfig is _native.core().ScoreConfig
    with pytest.raises(dataclasses.FrozenInstanceError):
        del ScoreConfig().seed
    with pytest.raises(ConfigError, match="options are given by name"):
        ScoreConfig("paper")
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ConfigError, match="timesteps is"):
        ScoreConfig(timesteps=endless)


def test_replace_exchanges_timesteps() -> None:
    config = ScoreConfig(steps=4)
    by_level = config.replace(noise_levels=[0.2, 0.8])
    assert (by_level.steps, by_level.timesteps, by_level.noise_levels) == (None, None, (0.2, 0.8))
    assert by_level.replace(seed=1).noise_levels == (0.2, 0.8)
    assert by_level.replace(steps=3).noise_levels is None


def test_steps_keep_the_range() -> None:
    default = ScoreConfig()
    assert default.noise_range is not None
    assert default.replace(steps=4).noise_range == ScoreConfig(steps=4).noise_range == default.noise_range
    whole = default.replace(noise_range=None)
    assert (whole.steps, whole.noise_range, whole.replace(steps=4).noise_range) == (10, None, None)
    assert ScoreConfig.preset("paper").replace(steps=20).noise_range is None
    moved = ScoreConfig(noise_range=(0.2, 0.4)).replace(steps=3)
    assert (moved.steps, moved.noise_range) == (3, (0.2, 0.4))
    levels = ScoreConfig(noise_levels=[0.5])
    assert (levels.steps, levels.noise_range) == (None, None)
    assert levels.replace(steps=4) == ScoreConfig(steps=4)
    assert levels.replace(noise_range=(0.2, 0.4)) == ScoreConfig(noise_range=(0.2, 0.4))


def test_a_configuration_from_before_there_were_ranges_means_what_it_meant() -> None:
    old = {name: value for name, value in ScoreConfig(steps=7).to_dict().items() if name != "noise_range"}
    assert ScoreConfig.from_dict(old) == ScoreConfig(steps=7, noise_range=None)
    assert ScoreConfig.from_json(json.dumps(old)) == ScoreConfig(steps=7, noise_range=None)
    levels = {**old, "steps": None, "noise_levels": [0.65, 0.29]}
    assert ScoreConfig.from_dict(levels) == ScoreConfig(noise_levels=[0.65, 0.29])


def test_changes() -> None:
    assert ScoreConfig().changes() == {}
    assert ScoreConfig(seed=3).changes() == {"seed": 3}


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "denoising_weight": st.floats(0, 1e6),
            "lambda_": st.floats(1e-6, 1e6),
            "seed": st.integers(0, 2**63 - 1),
            "batch_size": st.integers(1, 1000) | st.just("auto"),
            "map": st.sampled_from(["probs", "logits", "cosine"]),
            "steps": st.integers(1, 1000),
        },
    )
)
def test_json_round_trip(fields: dict[str, object]) -> None:
    config = ScoreConfig.from_dict(fields)
    assert ScoreConfig.from_json(config.to_json()) == config
    assert {name: getattr(config, name) for name in fields} == fields


def test_a_wrong_name_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="unknown option 'polling' .did you mean 'pooling'"):
        ScoreConfig.from_dict({"polling": "lse"})
    with pytest.raises(ConfigError, match="did you mean 'paper'"):
        ScoreConfig.preset("papr")
