"""Names, options and libraries of the baselines."""

from __future__ import annotations

import inspect
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.python.run_python import run_python

from discffusion import baselines
from discffusion.baselines import Matcher, baseline_names, describe_baselines, load_baseline
from discffusion.errors import CheckpointError, ConfigError, DeviceError, InstallationError

NAMES = [
    "blip2-itm", "clip", "clip-tuned", "cocoop", "diffusion-classifier", "diffusion-itm", "open-clip", "vqascore",
]  # fmt: skip
HUB = [name for name in NAMES if not name.startswith("diffusion")]


def test_every_name_has_a_line() -> None:
    assert baseline_names() == NAMES
    lines = describe_baselines()
    assert list(lines) == NAMES
    assert lines["clip"].endswith('pip install "discffusion[baselines]"')
    assert lines["open-clip"].endswith('pip install "discffusion[open-clip]"')
    assert "pip" not in lines["diffusion-itm"]


@pytest.mark.parametrize("name", ["clop", None, ["clip"]])
def test_an_unknown_name_lists_what_there_is(name: Any) -> None:
    with pytest.raises(ConfigError, match="unknown baseline .*; there are: blip2-itm, clip, clip-tuned"):
        load_baseline(name)


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match="colour"):
        load_baseline(name, model="nowhere/nothing", colour=1)


@pytest.mark.parametrize("name", HUB)
@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"batch_size": 0}, ConfigError, "batch_size is 0"),
        ({"truncate": "never"}, ConfigError, "truncate is 'never'"),
        ({"device": "tpu"}, DeviceError, "tpu"),
        ({"device": 3}, DeviceError, "device is 3"),
        ({"dtype": "int8"}, DeviceError, "dtype is 'int8'"),
        ({"model": ""}, CheckpointError, "a folder or a hub id"),
        ({"model": 5}, CheckpointError, "a folder or a hub id"),
        ({"model": "no/such/folder"}, CheckpointError, "there is no folder 'no/such/folder'"),
        ({"model": __file__}, CheckpointError, "not a hub id"),
    ],
)
def test_bad_options(name: str, options: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        load_baseline(name, **options)


@pytest.mark.parametrize("name", HUB)
def test_no_network_where_it_is_not_to_be_used(name: str, no_network: list[Any], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="give a folder, or fetch it once with the network"):
        load_baseline(name, local_files_only=True, cache_dir=tmp_path)
    assert no_network == []


def test_a_model_in_the_cache_needs_no_network(
    clip_folder: Path,
    no_network: list[Any],
    tmp_path: Path,
    images: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    repository = tmp_path / "models--somebody--clip"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    shutil.copytree(clip_folder, repository / "snapshots" / ("0" * 40))
    cached = load_baseline("clip", model="somebody/clip", cache_dir=tmp_path)
    assert cached.describe()["model"] == "somebody/clip"
    own = load_baseline("clip", model=clip_folder)
    assert (cached.matrix(images, ["a dog"]) == own.matrix(images, ["a dog"])).all()
    assert no_network == []
    (repository / "snapshots" / ("0" * 40) / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="the weights of 'somebody/clip' cannot be loaded"):
        load_baseline("clip", model="somebody/clip", cache_dir=tmp_path, local_files_only=True)
    assert no_network == []
    with pytest.raises(CheckpointError, match="the weights of 'somebody/clip' cannot be loaded"):
        load_baseline("clip", model="somebody/clip", cache_dir=tmp_path)
    assert no_network != []  # what is missing there is asked for


@pytest.mark.parametrize("name", HUB)
def test_an_empty_folder_is_no_model(name: str, no_network: list[Any], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        load_baseline(name, model=tmp_path)
    assert no_network == []


@pytest.mark.parametrize("name", HUB)
def test_a_missing_library_says_what_to_install(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library, extra = ("open_clip", "open-clip") if name == "open-clip" else ("transformers", "baselines")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InstallationError, match=rf'pip install "discffusion\[{extra}\]"'):
        load_baseline(name, model=tmp_path)


def test_the_package_is_light() -> None:
    code = (
        "import sys; from discffusion.baselines import describe_baselines; describe_baselines()\n"
        "print([m for m in ('torch', 'transformers', 'open_clip', 'PIL') if m in sys.modules])"
    )
    found = run_python(code)
    assert found.stdout.strip() == "[]", found.stderr


def test_anything_with_matrix_is_one() -> None:
    class Mine:
        def matrix(self, images: Any, texts: Any) -> np.ndarray:
            return np.zeros((len(images), len(texts)))

    assert isinstance(Mine(), Matcher)
    assert not isinstance(object(), Matcher)


@pytest.mark.parametrize("name", baseline_names())
def test_the_default_model_is_said(name: str) -> None:
    entry = baselines._OWN[name]
    default = inspect.signature(entry.load()).parameters["model"].default
    assert entry.model == ("the bundled pocket model" if default is None else default)
    assert f"; model {entry.model}" in describe_baselines()[name]
