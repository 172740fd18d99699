"""What is taken for the same model: it changes with every number and setting that a score depends on, and with nothing
else."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from tests.python.test_hub import COMMIT, into_cache

from discffusion import ConfigError, DeltasError, Scorer, Trainer, evaluate, load_dataset, score_shards
from discffusion.deltas import Deltas
from discffusion.hub import POCKET, resolve

ROOT = Path(__file__).parents[2]
FIRST_RELEASE = ROOT / "tests" / "fixtures" / "deltas_of_0.1.0.safetensors"
WEIGHTS = {
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "vae": "vae/diffusion_pytorch_model.safetensors",
    "text_encoder": "text_encoder/model.safetensors",
}
CONFIGS = {
    "unet": ("unet/config.json", "norm_eps", 2e-5),
    "vae": ("vae/config.json", "scaling_factor", 0.5),
    "text_encoder": ("text_encoder/config.json", "layer_norm_eps", 2e-5),
    "scheduler": ("scheduler/scheduler_config.json", "prediction_type", "epsilon"),
}
QUICK: dict[str, Any] = {"config": "attention", "noise_levels": [0.4], "seed": 0}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(resolve(POCKET)[0], tmp_path / "model"))


@pytest.fixture(scope="module")
def parts() -> dict[str, str]:
    return dict(Scorer().describe()["parts"])


def parts_of(model: Path, **options: Any) -> dict[str, str]:
    told = Scorer(model, **options).describe()["parts"]
    assert set(told) == {"unet", "vae", "text_encoder", "tokenizer", "scheduler"}
    return dict(told)


def changed(parts: dict[str, str], others: dict[str, str]) -> set[str]:
    return {name for name in parts if parts[name] != others[name]}


def flip_a_bit(file: Path, at: int) -> None:
    """Changes one number, and not the time of writing."""
    then = file.stat()
    with file.open("r+b") as opened:
        opened.seek(at)
        byte = opened.read(1)[0]
        opened.seek(at)
        opened.write(bytes([byte ^ 1]))
    os.utime(file, ns=(then.st_atime_ns, then.st_mtime_ns))


def places(file: Path) -> dict[str, int]:
    """In the middle of the largest weight, its first and the file's last byte."""
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        header = json.loads(opened.read(length))
    header.pop("__metadata__", None)
    start, end = max((entry["data_offsets"] for entry in header.values()), key=lambda at: at[1] - at[0])
    return {
        "middle": 8 + length + (start + end) // 2 + 2,
        "first": 8 + length,
        "last": file.stat().st_size - 1,
    }


@pytest.mark.parametrize("where", ["middle", "first", "last"])
@pytest.mark.parametrize("part", WEIGHTS)
def test_one_bit_of_any_weight(model: Path, parts: dict[str, str], part: str, where: str) -> None:
    before = Scorer(model)
    assert before.describe()["parts"] == parts
    flip_a_bit(model / WEIGHTS[part], places(model / WEIGHTS[part])[where])
    after = Scorer(model)
    assert changed(parts, after.describe()["parts"]) == {part}
    assert after.describe()["fingerprint"] != before.describe()["fingerprint"]
    assert after.info()["fingerprint"] == after.describe()["fingerprint"]


@pytest.mark.parametrize("part", CONFIGS)
def test_any_setting(model: Path, parts: dict[str, str], part: str) -> None:
    name, field, value = CONFIGS[part]
    config = json.loads((model / name).read_text())
    assert config.get(field) != value
    (model / name).write_text(json.dumps({**config, field: value}))
    assert changed(parts, parts_of(model)) == {part}


def test_what_the_tokenizer_reads(model: Path, parts: dict[str, str]) -> None:
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        file = model / "tokenizer" / name
        whole = file.read_text() if file.exists() else "{}"
        file.write_text(json.dumps({**json.loads(whole), "pad_token": "!"}))
        assert changed(parts, parts_of(model)) == {"tokenizer"}
        file.write_text(whole) if whole != "{}" else file.unlink()
    assert parts_of(model) == parts


def test_where_and_how_it_lies_makes_no_difference(
    model: Path, parts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (model.parent / "link").symlink_to(model)
    monkeypatch.chdir(model.parent)
    for path in (model, "model", "./model/../model/", "link"):
        assert parts_of(path) == parts  # type: ignore[arg-type]
    assert parts_of(model, dtype="bfloat16") == parts_of(model, lazy=False) == parts
    # Settings in another order, and what only says who wrote them.
    config = json.loads((model / "unet" / "config.json").read_text())
    told = {**dict(reversed(config.items())), "_diffusers_version": "9.9", "_name_or_path": "/somewhere"}
    (model / "unet" / "config.json").write_text(json.dumps(told, indent=7))
    # Weights in two files, and another order.
    whole = model / WEIGHTS["unet"]
    weights = load_file(whole)
    names = sorted(weights, reverse=True)
    index: dict[str, str] = {}
    for number, some in ((1, names[::2]), (2, names[1::2])):
        shard = f"diffusion_pytorch_model-0000{number}-of-00002.safetensors"
        save_file({name: weights[name] for name in some}, whole.with_name(shard))
        index |= dict.fromkeys(some, shard)
    whole.unlink()
    whole.with_name("diffusion_pytorch_model.safetensors.index.json").write_text(
        json.dumps({"weight_map": index})
    )
    assert parts_of(model) == parts


def test_names_and_types_of_weights_count(model: Path, parts: dict[str, str]) -> None:
    file = model / WEIGHTS["vae"]
    weights = load_file(file)
    save_file({name: value.astype(np.float32) for name, value in weights.items()}, file)
    assert changed(parts, parts_of(model)) == {"vae"}
    one, other = "encoder.conv_norm_out.weight", "encoder.conv_norm_out.bias"
    save_file({**weights, one: weights[other], other: weights[one]}, file)
    assert changed(parts, parts_of(model)) == {"vae"}


def test_a_checksum_is_kept_for_a_file_that_is_as_it_was(
    model: Path, parts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(model.parent / "cache"))
    kept = model.parent / "cache" / "discffusion" / "digests"
    assert parts_of(model) == parts
    assert not kept.exists() or not any(
        kept.iterdir()
    )  # written to a moment ago: it may be again, with the same times
    # The pocket model of the package was written to long ago.
    assert Scorer().describe()["parts"] == parts
    files = sorted(kept.iterdir())
    assert len(files) == 3
    for file in files:
        file.write_text("0123456789abcdef")
    assert changed(parts, Scorer().describe()["parts"]) == set(WEIGHTS), "they are read from there"
    for file in files:
        file.write_text("no checksum")
    assert Scorer().describe()["parts"] == parts
    # Nowhere to keep them.
    shutil.rmtree(model.parent / "cache")
    (model.parent / "cache").write_text("")
    assert Scorer().describe()["parts"] == parts


def test_the_commit_of_a_hub_repository(tmp_path: Path, parts: dict[str, str]) -> None:
    folder = into_cache(tmp_path, "owner/model", resolve(POCKET)[0])
    told = Scorer("owner/model", cache_dir=tmp_path).describe()
    assert (told["model"], told["revision"], told["parts"]) == ("owner/model", COMMIT, parts)
    assert Scorer(folder).describe()["revision"] == Scorer(folder).info()["revision"] == COMMIT
    assert Scorer().describe()["revision"] is None


def zero_the_vae(model: Path) -> None:
    file = model / WEIGHTS["vae"]
    weights = load_file(file)
    weights["encoder.conv_in.weight"] = np.zeros_like(weights["encoder.conv_in.weight"])
    save_file(weights, file)


def test_rows_of_a_changed_model_are_not_gone_on_with(model: Path, tmp_path: Path) -> None:
    def run(model: Any) -> float:
        report = evaluate(
            Scorer(model, method="denoising", noise_levels=[0.35, 0.5]),
            load_dataset("shapes", n=8),
            "accuracy",
            output=tmp_path / "rows.jsonl",
            progress=False,
        )
        return float(report["accuracy"].value)

    first = run(model)
    # Elsewhere it is the same model.
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(model, elsewhere)
    rows = (tmp_path / "rows.jsonl").read_bytes()
    assert run(elsewhere) == first
    assert (tmp_path / "rows.jsonl").read_bytes() == rows, "nothing was scored again"
    zero_the_vae(model)
    with pytest.raises(ConfigError, match=r"of another evaluation: scorer (fingerprint|parts vae) was"):
        run(model)


def test_shards_of_a_changed_model_are_not_gone_on_with(model: Path, tmp_path: Path) -> None:
    table = tmp_path / "shard.jsonl"
    rows = [{"image": str(ROOT / "examples" / "scene.png"), "text": f"text {n}"} for n in range(2)]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    score_shards(table, tmp_path / "out", Scorer(model, **QUICK), progress=False)
    name, field, value = CONFIGS["scheduler"]
    config = json.loads((model / name).read_text())
    (model / name).write_text(json.dumps({**config, field: value}))
    with pytest.raises(ConfigError, match="was scored with other settings"):
        score_shards(table, tmp_path / "out", Scorer(model, **QUICK), progress=False)


def test_deltas_that_are_merged_are_others_where_that_rounds() -> None:
    scorer = Scorer(dtype="bfloat16", **QUICK)
    name = "up_blocks.1.attentions.1.transformer_blocks.0.attn2.to_k"
    deltas = Deltas.from_arrays({f"{name}.delta": np.full((64, 128), 1e-4, np.float32)}, scorer)
    told = {merge: scorer.with_deltas(deltas, merge=merge).describe() for merge in (None, True, False)}
    assert told[None] == told[False] != told[True]
    assert scorer.describe()["deltas_merged"] is None


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    trainer = Trainer(Scorer(**QUICK), rank=1, layers="last(1)")
    trainer.fit(load_dataset("shapes", n=2), epochs=1, batch_size=2, progress=False)
    path = tmp_path_factory.mktemp("deltas") / "deltas.safetensors"
    trainer.save(path)
    return path


def scale_everything_but_keys(model: Path) -> None:
    file = model / WEIGHTS["unet"]
    weights = load_file(file)
    for name, value in weights.items():
        if value.ndim > 1 and "attn2.to_k" not in name:
            weights[name] = (value * 1.3).astype(value.dtype)
    save_file(weights, file)


def one_number_of_the_unet(model: Path) -> None:
    flip_a_bit(model / WEIGHTS["unet"], places(model / WEIGHTS["unet"])["middle"])


def predict_noise(model: Path) -> None:
    name, field, value = CONFIGS["scheduler"]
    (model / name).write_text(json.dumps({**json.loads((model / name).read_text()), field: value}))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (zero_the_vae, "vae"),
        (scale_everything_but_keys, "unet"),
        (one_number_of_the_unet, "unet"),
        (predict_noise, "prediction_type"),
    ],
)
def test_deltas_of_another_model_are_refused(
    model: Path, trained: Path, change: Callable[[Path], None], what: str
) -> None:
    Scorer(model, **QUICK).load_deltas(trained)
    change(model)
    scorer = Scorer(model, **QUICK)
    with pytest.raises(
        DeltasError, match=rf"other weights of this architecture \({what} differs\).*strict=False"
    ):
        scorer.load_deltas(trained)
    scorer.load_deltas(trained, strict=False)
    assert scorer.deltas is not None


def test_deltas_fit_the_same_model_in_another_type(model: Path, trained: Path) -> None:
    import torch
    from safetensors.torch import load_file as load
    from safetensors.torch import save_file as save

    for kind in (torch.float32, torch.bfloat16):
        for name in WEIGHTS.values():
            original = load(resolve(POCKET)[0] / name)
            save({key: value.to(kind) for key, value in original.items()}, model / name)
        Scorer(model, **QUICK).load_deltas(trained)
    # By half a percent they are another model's.
    weights = {key: value * 1.005 for key, value in load(resolve(POCKET)[0] / WEIGHTS["unet"]).items()}
    save({key: value.to(torch.float32) for key, value in weights.items()}, model / WEIGHTS["unet"])
    with pytest.raises(DeltasError, match="unet differs"):
        Scorer(model, **QUICK).load_deltas(trained)


def test_a_file_of_the_first_release(model: Path) -> None:
    """Scores by 0.1.0 itself, of the image and text below, without and with the deltas that it wrote."""
    image, text = str(ROOT / "examples" / "scene.png"), "a red circle"
    scorer = Scorer(**QUICK)
    assert scorer.score(image, text) == pytest.approx(0.9801524877548218, abs=1e-6)
    with safe_open(FIRST_RELEASE, "np") as file:
        assert '"base"' not in file.metadata()["discffusion.fingerprint"]
    for options in ({}, {"dtype": "bfloat16"}):
        Scorer(**{**QUICK, **options}).load_deltas(FIRST_RELEASE)
    scorer.load_deltas(FIRST_RELEASE)
    assert scorer.score(image, text) == pytest.approx(0.9772223830223083, abs=1e-6)
    # All that such a file knows of its model.
    file = model / WEIGHTS["unet"]
    weights = load_file(file)
    for name, value in weights.items():
        if name.endswith("attn2.to_k.weight"):
            weights[name] = (value * 1.005).astype(value.dtype)
    save_file(weights, file)
    with pytest.raises(DeltasError, match="unet differs"):
        Scorer(model, **QUICK).load_deltas(FIRST_RELEASE)


def test_a_training_of_another_model_is_not_gone_on_with(model: Path, tmp_path: Path) -> None:
    def fit(epochs: int) -> None:
        trainer = Trainer(Scorer(model, **QUICK), rank=1, layers="last(1)")
        items = load_dataset("shapes", n=2)
        trainer.fit(items, epochs=epochs, batch_size=2, checkpoint_dir=tmp_path / "run", progress=False)

    fit(1)
    fit(2)
    zero_the_vae(model)
    with pytest.raises(ConfigError, match=r"is a training state of another model \(vae differs\)"):
        fit(3)
