"""LoRA in and out: the core and diffusers, given the same file, show the same maps and make the same prediction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils.state_dict_utils import convert_state_dict_to_kohya
from peft.utils import get_peft_model_state_dict
from tests.parity import lora_files
from tests.parity.case import Case
from tests.parity.lora_files import LAYOUTS, Pairs, Tensors, random_pairs, scaled, write

from discffusion import Scorer, _native
from discffusion.bench.reference.model import Reference

_core = _native.core()

# Absolute: probabilities are at most 1, and predictions have entries of about 1.
TOLERANCE = 1e-5
# What deltas change, at least, for a test to say anything.
EFFECT = 0.05


def loaded(case: Case, path: Path) -> Any:
    return _core.Deltas.load(str(path), case.core, True)


def patched(case: Case, deltas: Any) -> Case:
    """The same case, whose core has deltas."""
    other = replace(case)
    other.__dict__["core"] = case.core.with_deltas(deltas, None)
    return other


def difference(case: Case, reference: Reference) -> float:
    """The largest absolute difference of any probability of any map or entry of a prediction."""
    worst = 0.0
    z = reference.latent(case.images[0], case.resolution)
    for t, noise in case.noise.items():
        theirs = reference.observe(reference.noised(z, noise, t), t, reference.condition(case.texts[0]))
        ours = case.observe(t)
        assert list(ours["maps"]) == list(theirs.layers)
        pairs = [(ours["maps"][site], theirs.map(site, "probs")) for site in theirs.layers]
        for a, b in [*pairs, (ours["prediction"], theirs.prediction)]:
            assert a.shape == tuple(b.shape)
            worst = max(worst, float(np.abs(a - b.numpy()).max()))
    return worst


def check(case: Case, deltas: Any, reference: Reference) -> None:
    """With the deltas the core is what `reference` became, which is not what it was."""
    assert difference(case, reference) > EFFECT
    assert difference(patched(case, deltas), reference) <= TOLERANCE


def reference_with(case: Case, pairs: Pairs) -> Reference:
    """diffusers with these pairs, by today's layout."""
    reference = Reference(case.folder)
    reference.unet.load_lora_adapter(lora_files.diffusers(pairs), prefix="unet")
    return reference


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(epsilon_case: Case, tmp_path: Path, layout: str) -> None:
    """Self- and cross-attention, queries, keys, values and outputs, of three ranks in one file."""
    reference = Reference(epsilon_case.folder)
    path = write(tmp_path / "lora.safetensors", LAYOUTS[layout].tensors(random_pairs(reference.unet)))
    deltas = loaded(epsilon_case, path)
    assert len(deltas.arrays()) == 2 * 128
    LAYOUTS[layout].load(reference, path)
    check(epsilon_case, deltas, reference)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(sd15: Case, tmp_path: Path, dtype: torch.dtype) -> None:
    reference = Reference(sd15.folder)
    tensors = lora_files.authors(random_pairs(reference.unet))
    path = write(tmp_path / "lora.safetensors", {key: half.to(dtype) for key, half in tensors.items()})
    reference.unet.load_lora_adapter(path, prefix=None, use_safetensors=True)
    check(sd15, loaded(sd15, path), reference)


def test_one_alpha_for_all(sd21: Case, tmp_path: Path) -> None:
    """kohya's alpha: `alpha / r` differs where ranks do."""
    reference = Reference(sd21.folder)
    pairs = random_pairs(reference.unet)
    path = write(tmp_path / "lora.safetensors", lora_files.kohya(pairs, dict.fromkeys(pairs, 6.0)))
    lora_files.by_pipeline(reference, path)
    check(sd21, loaded(sd21, path), reference)


# diffusers does not read these, or not right (of kohya's alphas it takes the commonest for attention layers), so it
# gets the same weights in a layout that it reads.
def _with_alphas(pairs: Pairs, alphas: dict[str, float]) -> Tensors:
    numbers = {f"unet.{module}.alpha": torch.tensor(alpha) for module, alpha in alphas.items()}
    return lora_files.diffusers(pairs) | numbers


ONLY_OURS: dict[str, Callable[[Pairs, dict[str, float]], Tensors]] = {
    "kohya": lora_files.kohya,
    "kohya_as_convolutions": lambda pairs, alphas: lora_files.conv_shaped(lora_files.kohya(pairs, alphas)),
    "diffusers_with_alphas": _with_alphas,
}


@pytest.mark.parametrize("layout", ONLY_OURS)
def test_an_alpha_for_each(sd15: Case, tmp_path: Path, layout: str) -> None:
    pairs = random_pairs(sd15.reference.unet)
    alphas = {module: float(1 + number % 5) for number, module in enumerate(pairs)}
    path = write(tmp_path / "lora.safetensors", ONLY_OURS[layout](pairs, alphas))
    check(sd15, loaded(sd15, path), reference_with(sd15, scaled(pairs, alphas)))


def test_adapter_names(sd15: Case, tmp_path: Path) -> None:
    pairs = random_pairs(sd15.reference.unet)
    path = write(tmp_path / "lora.safetensors", lora_files.named_adapter(pairs))
    check(sd15, loaded(sd15, path), reference_with(sd15, pairs))


def lora_config(**changes: Any) -> peft.LoraConfig:
    """Ranks and alphas that differ by module, weights that are not zero."""
    fields: dict[str, Any] = {
        "r": 4,
        "lora_alpha": 6,
        "rank_pattern": {"attn2.to_k": 2, "to_out.0": 3},
        "alpha_pattern": {"attn1.to_q": 3, "to_out.0": 9},
        "target_modules": list(lora_files.PROJECTIONS),
        "init_lora_weights": False,
    }
    torch.manual_seed(0)
    return peft.LoraConfig(**{**fields, **changes})


CONFIGS: dict[str, dict[str, Any]] = {
    "patterns": {},
    "rslora": {"use_rslora": True, "rank_pattern": {}, "alpha_pattern": {}},
    "keys_and_values": {
        "target_modules": ["attn2.to_k", "attn2.to_v"],
        "rank_pattern": {},
        "alpha_pattern": {},
    },
}


@pytest.mark.parametrize("config", CONFIGS)
def test_files_that_peft_writes(sd15: Case, tmp_path: Path, config: str) -> None:
    reference = Reference(sd15.folder)
    peft.get_peft_model(reference.unet, lora_config(**CONFIGS[config])).save_pretrained(str(tmp_path))
    check(sd15, loaded(sd15, tmp_path / "adapter_model.safetensors"), reference)
    check(sd15, loaded(sd15, tmp_path), reference)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("by", ["adapter", "pipeline"])
def test_files_that_diffusers_writes(sd21: Case, tmp_path: Path, config: str, by: str) -> None:
    """By the UNet, without its name before the keys, and by the pipeline, with it."""
    reference = Reference(sd21.folder)
    reference.unet.add_adapter(lora_config(**CONFIGS[config]))
    if by == "adapter":
        reference.unet.save_lora_adapter(tmp_path)
    else:
        StableDiffusionPipeline.save_lora_weights(
            tmp_path,
            unet_lora_layers=get_peft_model_state_dict(reference.unet),
            unet_lora_adapter_metadata=reference.unet.peft_config["default"].to_dict(),
        )
    check(sd21, loaded(sd21, tmp_path / "pytorch_lora_weights.safetensors"), reference)


def test_files_that_diffusers_writes_for_web_interfaces(sd15: Case, tmp_path: Path) -> None:
    """kohya's layout, with alphas that are whole numbers by type."""
    pairs = random_pairs(sd15.reference.unet)
    tensors = convert_state_dict_to_kohya(lora_files.diffusers(pairs))
    assert (
        tensors["lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.alpha"].dtype == torch.int64
    )
    path = write(tmp_path / "lora.safetensors", tensors)
    check(sd15, loaded(sd15, path), reference_with(sd15, pairs))


def check_bin(case: Case, path: Path, deltas: Any) -> None:
    """The file, which the core does not read, gives a scorer the same deltas to the bit."""
    scorer = Scorer(case.folder, device="cpu", dtype="float32")
    scorer.load_deltas(path)
    seen = scorer.observe(case.images[0], case.texts[0], 741, noise=case.noise[741].numpy())
    np.testing.assert_array_equal(seen.prediction, patched(case, deltas).observe(741)["prediction"])
    assert np.abs(seen.prediction - case.observe(741)["prediction"]).max() > EFFECT


@pytest.mark.parametrize("protocol", ["zip", "legacy"])
def test_bin_of_the_authors(sd15: Case, tmp_path: Path, protocol: str) -> None:
    """`torch.save` of now and then."""
    tensors = lora_files.authors(random_pairs(sd15.reference.unet))
    torch.save(tensors, tmp_path / "lora.bin", _use_new_zipfile_serialization=protocol == "zip")
    check_bin(sd15, tmp_path / "lora.bin", loaded(sd15, write(tmp_path / "lora.safetensors", tensors)))


def test_bin_of_peft(sd15: Case, tmp_path: Path) -> None:
    """Its scale is in the file beside it."""
    model = peft.get_peft_model(Reference(sd15.folder).unet, lora_config())
    model.save_pretrained(str(tmp_path / "bin"), safe_serialization=False)
    model.save_pretrained(str(tmp_path / "safe"))
    check_bin(sd15, tmp_path / "bin", loaded(sd15, tmp_path / "safe"))
