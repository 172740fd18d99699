"""The public surface: every name and argument that documentation, tests and notebooks agreed on is there."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import numpy as np
import pytest

import discffusion
from discffusion import Scorer

#: name in the package -> arguments by name, in the order in which they may be given without one
CALLS: dict[str, str] = {
    "Scorer": "model",
    "Scorer.from_pretrained": "id_or_path revision variant cache_dir local_files_only token",
    "Scorer.score": "image text",
    "Scorer.matrix": "images texts",
    "Scorer.rank": "images text top_k",
    "Scorer.observe": "image text timestep layers map",
    "Scorer.explain": "image text",
    "Scorer.tokenize": "text",
    "Scorer.encode_images": "images",
    "Scorer.embed_images": "images",
    "Scorer.embed_texts": "texts",
    "Scorer.generate": "prompt steps guidance_scale negative_prompt height width seed",
    "Scorer.load_deltas": "path",
    "Scorer.unload_deltas": "",
    "Scorer.with_config": "config",
    "Scorer.memory": "",
    "Scorer.close": "",
    "Scorer.__enter__": "",
    "Scorer.__exit__": "",
    "Trainer": "scorer",
    "Trainer.fit": "train validation epochs batch_size",
    "Trainer.save": "path",
    "Trainer.export_lora": "path format",
    "load_dataset": "name",
    "MatchItem": "key images texts match group meta",
    "evaluate": "scorer items",
    "Report.table": "",
    "Report.to_pandas": "",
    "Report.to_json": "path",
    "Report.plot": "",
    "Report.reliability": "bins",
    "Report.plot_reliability": "ax bins",
    "Report.__getitem__": "",
    "Explanation.plot": "",
    "Explanation.overlay": "word",
    "Explanation.save": "folder",
    "ScoreConfig": "",
}
#: arguments that are given by name
BY_NAME: dict[str, str] = {
    "Scorer": "device dtype config seed",
    "Scorer.score": "noise",
    "Scorer.matrix": "noise",
    "Scorer.rank": "noise",
    "Scorer.observe": "noise",
    "Scorer.explain": "noise layers",
    "Scorer.with_config": "steps layers",
    "Trainer": "loss margin rank layers learning_rate weight_decay timesteps_per_step negatives seed",
    "Trainer.fit": "checkpoint_dir resume callbacks",
    "load_dataset": "root split subset",
    "evaluate": "metrics limit output resume",
    "ScoreConfig": (
        "method denoising_weight map pooling lambda_ tokens layers heads attribution steps timesteps noise_levels "
        "resolution via resize batch_size truncate seed"
    ),
}
PROPERTIES: dict[str, str] = {
    "Scorer": "deltas config device dtype model_id num_parameters",
    "Explanation": "per_layer per_head per_timestep maps",
}
FIELDS: dict[str, str] = {
    "Observation": "maps prediction latent tokens",
    "Explanation": "tokens score",
    "MatchItem": "key images texts match group meta",
}
VALUES: dict[str, tuple[Any, ...]] = {
    "method": ("attention", "denoising", "combined"),
    "map": ("probs", "logits", "cosine"),
    "pooling": ("lse", "max_row", "max_col", "mean"),
    "tokens": ("all", "content"),
    "layers": ("all", "down", "mid", "up", "last(2)", ["up.3.2"]),
    "heads": ("mean", "attributed", "learned", [0, 1]),
    "attribution": ("local", "full", "integrated", "elementwise"),
    "resize": ("squash", "crop"),
    "truncate": ("error", "warn", "silent"),
    "batch_size": ("auto", 8),
}
ERRORS = {
    "ConfigError": ValueError,
    "ImageError": ValueError,
    "CheckpointError": ValueError,
    "DeltasError": ValueError,
    "DatasetError": ValueError,
    "OutOfMemoryError": MemoryError,
    "DeviceError": RuntimeError,
}
COMMANDS = "score rank explain calibrate train eval generate reproduce bench demo info"
#: commands that score, and so have the options of a score in kebab case
SCORING = "score rank explain calibrate train eval"


def found(name: str) -> Any:
    value: Any = discffusion
    for part in name.split("."):
        value = getattr(value, part)
    return value


def parameters(name: str) -> dict[str, inspect.Parameter]:
    made = inspect.signature(found(name)).parameters
    return {key: parameter for key, parameter in made.items() if key not in ("self", "cls")}


@pytest.mark.parametrize("name", CALLS)
def test_arguments_in_order(name: str) -> None:
    assert callable(found(name))
    wanted = CALLS[name].split()
    positional = [
        key
        for key, each in parameters(name).items()
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    assert positional[: len(wanted)] == wanted


@pytest.mark.parametrize("name", BY_NAME)
def test_arguments_by_name(name: str) -> None:
    given = parameters(name)
    rest = any(each.kind is each.VAR_KEYWORD for each in given.values())
    for key in BY_NAME[name].split():
        if key not in given:
            assert rest, f"{name} takes no {key}="
            assert takes(name, key), f"{name} takes no {key}="


def takes(name: str, key: str) -> bool:
    """Whether a call that takes any option knows this one."""
    if name in ("Scorer", "Scorer.with_config", "ScoreConfig"):
        return key in {field.name for field in dataclasses.fields(discffusion.ScoreConfig)}
    if name == "Trainer":
        from discffusion.training.options import option_table

        return key in {row["name"] for row in option_table()}
    if name == "load_dataset":
        from discffusion.data.comvg import load

        return key in inspect.signature(load).parameters
    return False


def test_properties_and_fields() -> None:
    for name, keys in PROPERTIES.items():
        for key in keys.split():
            assert not callable(inspect.getattr_static(found(name), key)), f"{name}.{key}"
    for name, keys in FIELDS.items():
        assert {field.name for field in dataclasses.fields(found(name))} >= set(keys.split())


def test_options_and_values() -> None:
    for key, values in VALUES.items():
        for value in values:
            config = discffusion.ScoreConfig(**{key: value})
            got = getattr(config, key)
            assert (list(got) if isinstance(value, list) else got) == value
    assert discffusion.ScoreConfig(steps=7).steps == 7
    assert hash(discffusion.ScoreConfig(seed=1)) == hash(discffusion.ScoreConfig(seed=1))
    with pytest.raises(dataclasses.FrozenInstanceError):
        discffusion.ScoreConfig().seed = 1  # type: ignore[misc]


def test_errors() -> None:
    for name, builtin in ERRORS.items():
        assert issubclass(found(name), discffusion.DiscffusionError)
        assert issubclass(found(name), builtin)


def test_what_calls_give(scorer: Scorer, picture: np.ndarray) -> None:
    """Types and shapes as they were agreed on."""
    assert isinstance(scorer.score(picture, "a"), float)
    pairs = scorer.score([picture, picture], ["a", "b"])
    assert (pairs.shape, pairs.dtype) == ((2,), np.float64)
    table = scorer.matrix([picture], ["a", "b", "c"])
    assert (table.shape, table.dtype) == ((1, 3), np.float64)
    ranked = scorer.rank(picture, ["one", "two"], 1)
    assert len(ranked) == 1 and isinstance(ranked[0][0], int) and isinstance(ranked[0][1], float)
    seen = scorer.observe(picture, "a", 500, "all", "probs")
    assert seen.prediction is not None and seen.prediction.shape == seen.latent.shape
    assert {each.dtype for each in seen.maps.values()} == {np.dtype(np.float32)}
    ids = scorer.tokenize("a")
    assert (ids.shape, ids.dtype) == ((77,), np.int64)
    latents = scorer.encode_images([picture])
    assert (latents.shape, latents.dtype) == ((1, *seen.latent.shape), np.float32)
    for vectors in (scorer.embed_images([picture]), scorer.embed_texts(["a"])):
        assert (vectors.shape, vectors.dtype) == ((1, latents.size), np.float32)


def test_commands() -> None:
    import typer.main

    from discffusion.cli import build_app

    group: Any = typer.main.get_command(build_app())
    assert set(COMMANDS.split()) <= set(group.commands)
    options = {
        name: {flag for each in made.params for flag in each.opts} for name, made in group.commands.items()
    }
    for name in COMMANDS.split():
        assert "--model" in options[name], name
    for name in SCORING.split():
        assert {"--json", "--device", "--dtype", "--seed"} <= options[name], name
        kebab = {"--" + key.strip("_").replace("_", "-") for key in BY_NAME["ScoreConfig"].split()}
        assert kebab <= options[name] or name == "train", (name, kebab - options[name])
