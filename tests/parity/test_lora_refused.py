"""LoRA files that are not loaded: the error names the file and the key, and no pickle is run."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from tests.parity import lora_files
from tests.parity.case import Case
from tests.parity.lora_files import Tensors, random_pairs, write
from tests.parity.test_lora import loaded, lora_config

from discffusion import Scorer, _native
from discffusion.bench.reference.model import Reference
from discffusion.errors import DeltasError

_core = _native.core()


class Malicious:
    """Unpickled, it would make a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("by", ["torch", "pickle"])
def test_code_in_a_bin_is_not_run(sd15: Case, tmp_path: Path, by: str) -> None:
    mark, path = tmp_path / "ran", tmp_path / "lora.bin"
    content = {**lora_files.authors(random_pairs(sd15.reference.unet)), "extra": Malicious(mark)}
    if by == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    scorer = Scorer(sd15.folder, device="cpu", dtype="float32")
    with pytest.raises(DeltasError, match=re.escape("lora.bin")):
        scorer.load_deltas(path)
    assert not mark.exists()
    assert scorer.deltas is None
    # The file is what it is meant to be: a careless reader would run it.
    with path.open("rb") as file:
        torch.load(file, weights_only=False) if by == "torch" else pickle.load(file)
    assert mark.exists()


BLOCK = "down_blocks.0.attentions.1.transformer_blocks.0"
KEY = f"unet.{BLOCK}.attn2.to_k.lora_A.weight"


def _without(tensors: Tensors, key: str) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if name != key}


def _changed(tensors: Tensors, key: str, tensor: torch.Tensor) -> Tensors:
    return {**tensors, key: tensor}


# What is done to a good file, and what the message names.
REFUSED: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "feed_forward": (
        lambda t: _changed(t, f"unet.{BLOCK}.ff.net.0.proj.lora_A.weight", torch.ones(2, 32)),
        f"unet.{BLOCK}.ff.net.0.proj.lora_A.weight",
    ),
    "text_encoder": (
        lambda t: _changed(t, "text_encoder.layers.0.q_proj.lora_A.weight", torch.ones(2, 32)),
        "text_encoder.layers.0.q_proj.lora_A.weight",
    ),
    "dora": (
        lambda t: _changed(t, f"unet.{BLOCK}.attn2.to_k.lora_magnitude_vector", torch.ones(32)),
        f"unet.{BLOCK}.attn2.to_k.lora_magnitude_vector",
    ),
    "no_lora_at_all": (lambda _: {"model.weight": torch.ones(3)}, "model.weight"),
    "one_half": (lambda t: _without(t, KEY), KEY.replace("lora_A", "lora_B")),
    "ranks_that_differ": (lambda t: _changed(t, KEY, torch.ones(3, 32)), KEY),
    "three_axes": (lambda t: _changed(t, KEY, torch.ones(4, 32, 1)), KEY),
    "integers": (lambda t: _changed(t, KEY, torch.ones(4, 32, dtype=torch.int8)), KEY),
    "not_finite": (lambda t: _changed(t, KEY, torch.full((4, 32), torch.nan)), f"{BLOCK}.attn2.to_k"),
    "other_width": (lambda t: _changed(t, KEY, torch.ones(4, 48)), f"{BLOCK}.attn2.to_k"),
    "layer_that_is_not_there": (
        lambda t: {
            key.replace("down_blocks.0.attentions.1", "up_blocks.0.attentions.1"): x for key, x in t.items()
        },
        "up_blocks.0.attentions.1.transformer_blocks.0",
    ),
    "empty": (lambda _: {}, "lora.safetensors"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(sd15: Case, tmp_path: Path, what: str) -> None:
    change, named = REFUSED[what]
    good = lora_files.diffusers(random_pairs(sd15.reference.unet))
    for strict in (True, False):
        path = write(tmp_path / "lora.safetensors", change(good))
        with pytest.raises(DeltasError, match=re.escape(named)) as error:
            _core.Deltas.load(str(path), sd15.core, strict)
        assert str(path) in str(error.value)


def test_a_peft_file_needs_its_configuration(sd15: Case, tmp_path: Path) -> None:
    """Without it the scale is not known."""
    peft.get_peft_model(Reference(sd15.folder).unet, lora_config()).save_pretrained(str(tmp_path))
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(DeltasError, match=r"adapter_config\.json"):
        loaded(sd15, tmp_path / "adapter_model.safetensors")


def test_a_pattern_that_is_not_understood(sd15: Case, tmp_path: Path) -> None:
    """peft's patterns are regular expressions; what is more than a module's name is refused, not guessed."""
    config = lora_config(alpha_pattern={"^mid_block.*to_v": 5})
    peft.get_peft_model(Reference(sd15.folder).unet, config).save_pretrained(str(tmp_path))
    with pytest.raises(DeltasError, match=re.escape("^mid_block.*to_v")):
        loaded(sd15, tmp_path / "adapter_model.safetensors")
