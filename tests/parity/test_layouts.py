"""The same weights in every published layout give the same scores; broken weights give an error that names
the key."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.fixtures.make_checkpoint import PARTS
from tests.parity.case import SCORE_TOLERANCE, Case

from discffusion.errors import CheckpointError

OPTIONS: dict[str, Any] = {"method": "combined", "map": "logits"}
PAIRS = [(0, 0), (1, 1)]
Checkpoint = Callable[..., Path]


@pytest.mark.parametrize(
    "layout",
    [{"vae_keys": "new"}, {"shards": 3}, {"shards": 2, "vae_keys": "new"}, {"variant": "fp16", "shards": 2}],
    ids=str,
)
def test_layouts_of_the_same_weights(sd15: Case, checkpoint: Checkpoint, layout: dict[str, Any]) -> None:
    """Exactly equal, not nearly: the same numbers reach the same operations."""
    other = Case(checkpoint("sd15", **layout), layout.get("variant"))
    np.testing.assert_array_equal(other.scores(PAIRS, **OPTIONS), sd15.scores(PAIRS, **OPTIONS))
    np.testing.assert_array_equal(
        other.core.encode_images(other.images, other.config()),
        sd15.core.encode_images(sd15.images, sd15.config()),
    )


def test_float16_variant(checkpoint: Checkpoint) -> None:
    """`diffusion_pytorch_model.fp16.safetensors`, asked for by name, computed in float32."""
    half = Case(checkpoint("sd21", dtype="float16", variant="fp16"), "fp16")
    expected = [half.recording.score(*pair, **OPTIONS) for pair in PAIRS]
    assert half.scores(PAIRS, **OPTIONS) == pytest.approx(expected, rel=SCORE_TOLERANCE, abs=0)


def test_variant_beside_the_plain_files(sd15: Case, checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Where both are there, each is read when asked for; a part that lacks the variant falls back to its
    plain file."""
    half = checkpoint("sd15", dtype="float16", variant="fp16")
    shutil.copytree(sd15.folder, tmp_path / "both")
    for part, stem in PARTS.items():
        if part != "vae":
            shutil.copy(half / part / f"{stem}.fp16.safetensors", tmp_path / "both" / part)
    plain, fp16 = Case(tmp_path / "both"), Case(tmp_path / "both", "fp16")
    np.testing.assert_array_equal(plain.scores(PAIRS, **OPTIONS), sd15.scores(PAIRS, **OPTIONS))
    assert (fp16.scores(PAIRS, **OPTIONS) != plain.scores(PAIRS, **OPTIONS)).all()
    np.testing.assert_array_equal(
        fp16.core.encode_images(fp16.images, fp16.config()),
        plain.core.encode_images(fp16.images, fp16.config()),
    )


def test_number_of_parameters(case: Case) -> None:
    """The UNet's and the text encoder's are those of the real classes."""
    counted = json.loads(case.core.info())["num_parameters"]
    for part, model in (("unet", case.reference.unet), ("text_encoder", case.reference.text_encoder)):
        assert counted[part] == sum(parameter.numel() for parameter in model.parameters()), part


# A weight of each part that only its own layer reads, spelled as in the file.
KEYS = {
    "unet": "up_blocks.3.attentions.2.transformer_blocks.0.attn2.to_k.weight",
    "vae": "encoder.mid_block.attentions.0.proj_attn.bias",
    "text_encoder": "text_model.encoder.layers.2.mlp.fc1.weight",
}


def broken(sd15: Case, folder: Path, part: str, change: Callable[[dict[str, torch.Tensor]], None]) -> Case:
    """A copy of `sd15` with the weights of one part changed."""
    shutil.copytree(sd15.folder, folder, dirs_exist_ok=True)
    file = folder / part / f"{PARTS[part]}.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file)
    return Case(folder)


@pytest.mark.parametrize("part", KEYS)
def test_missing_weight(sd15: Case, tmp_path: Path, part: str) -> None:
    def drop(weights: dict[str, torch.Tensor]) -> None:
        del weights[KEYS[part]]

    case = broken(sd15, tmp_path, part, drop)
    with pytest.raises(CheckpointError) as error:
        _ = case.core
    # The VAE's error may name the key's newer spelling.
    assert KEYS[part] in str(error.value) or (part == "vae" and "to_out.0.bias" in str(error.value))


@pytest.mark.parametrize("part", KEYS)
def test_left_over_weight(sd15: Case, tmp_path: Path, part: str) -> None:
    name = KEYS[part].replace(".2.", ".7.").replace("proj_attn", "extra")
    case = broken(sd15, tmp_path, part, lambda weights: weights.update({name: torch.ones(3)}))
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        _ = case.core


@pytest.mark.parametrize("part", KEYS)
@pytest.mark.parametrize("how", ["wider", "flat", "integers"])
def test_wrong_weight(sd15: Case, tmp_path: Path, part: str, how: str) -> None:
    def change(weights: dict[str, torch.Tensor]) -> None:
        old = weights[KEYS[part]]
        new = {"wider": torch.cat([old, old]), "flat": old.reshape(-1, 1), "integers": old.to(torch.int32)}
        weights[KEYS[part]] = new[how]

    with pytest.raises(CheckpointError, match=KEYS[part].replace(".", r"\.")):
        _ = broken(sd15, tmp_path, part, change).core


def test_shard_that_is_not_there(checkpoint: Checkpoint, tmp_path: Path) -> None:
    shutil.copytree(checkpoint("sd15", shards=3), tmp_path, dirs_exist_ok=True)
    (tmp_path / "unet" / "diffusion_pytorch_model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match="00002-of-00003"):
        _ = Case(tmp_path).core
