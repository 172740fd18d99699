"""Deltas written as LoRA are loaded by diffusers and peft, and show the same maps there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tests.parity import lora_files
from tests.parity.case import Case
from tests.parity.lora_files import SIZE, modules, projection, random_pairs
from tests.parity.test_lora import check, loaded

from discffusion import _native
from discffusion.bench.reference.model import Reference
from discffusion.errors import ConfigError

_core = _native.core()
Arrays = dict[str, np.ndarray]


def low_rank(case: Case) -> Arrays:
    """Three ranks, in every attention projection."""
    pairs = random_pairs(case.reference.unet, seed=1)
    halves = {
        f"{m}.{name}": half
        for m, pair in pairs.items()
        for name, half in zip(("down", "up"), pair, strict=True)
    }
    return {name: half.numpy() for name, half in halves.items()}


def dense(case: Case) -> Arrays:
    """Of full rank, in every attention projection."""
    draw = torch.Generator().manual_seed(2)

    def delta(outputs: int, inputs: int) -> np.ndarray:
        return (torch.randn(outputs, inputs, generator=draw) * SIZE / inputs**0.5).numpy()

    return {f"{module}.delta": delta(*shape) for module, shape in modules(case.reference.unet).items()}


def mixed(case: Case) -> Arrays:
    """What training with a subset of layers gives: cross-attention's keys dense, self-attention's of low rank."""
    return {n: a for n, a in dense(case).items() if "attn2.to_k" in n} | {
        n: a for n, a in low_rank(case).items() if "attn1.to_v" in n
    }


MAKE: dict[str, Callable[[Case], Arrays]] = {"low_rank": low_rank, "dense": dense, "mixed": mixed}


LOADERS: dict[str, tuple[str, lora_files.Loader]] = {
    "pipeline": ("diffusers", lora_files.by_pipeline),
    "adapter": ("diffusers", lora_files.by_adapter()),
    "adapter_without_metadata": ("diffusers", lora_files.without_metadata),
    "peft": ("peft", lora_files.by_peft),
}


def exported(deltas: Any, folder: Path, format: str, rank: int | None = None) -> tuple[Path, float]:
    path = folder / ("lora.safetensors" if format == "diffusers" else "adapter")
    return path, deltas.export_lora(str(path), format, rank)


@pytest.mark.parametrize("make", MAKE)
@pytest.mark.parametrize("loader", LOADERS)
def test_exports_load_elsewhere(epsilon_case: Case, tmp_path: Path, make: str, loader: str) -> None:
    """All ranks: nothing is lost."""
    layout, load = LOADERS[loader]
    deltas = _core.Deltas.from_arrays(MAKE[make](epsilon_case), {}, epsilon_case.core, True)
    path, error = exported(deltas, tmp_path, layout)
    assert error == 0 if make == "low_rank" else error < 1e-6
    reference = Reference(epsilon_case.folder)
    load(reference, path)
    check(epsilon_case, deltas, reference)


@pytest.mark.parametrize("format", ["diffusers", "peft"])
def test_exports_load_here(sd15: Case, tmp_path: Path, format: str) -> None:
    """The same numbers, to the bit, where they were of low rank already."""
    arrays = low_rank(sd15)
    deltas = _core.Deltas.from_arrays(arrays, {}, sd15.core, True)
    again = loaded(sd15, exported(deltas, tmp_path, format)[0])
    assert set(again.arrays()) == set(arrays)
    for name, array in again.arrays().items():
        np.testing.assert_array_equal(array, arrays[name], err_msg=name)
    assert json.loads(again.info())["rank"] is None  # of three ranks


@pytest.mark.parametrize("format", ["diffusers", "peft"])
def test_a_lower_rank_loses_as_little_as_can_be(sd15: Case, tmp_path: Path, format: str) -> None:
    """Of every module what the largest singular values hold."""
    arrays = dense(sd15)
    deltas = _core.Deltas.from_arrays(arrays, {}, sd15.core, True)
    path, error = exported(deltas, tmp_path, format, rank=5)
    found = loaded(sd15, path).arrays()
    lost = whole = 0.0
    for name, array in arrays.items():
        module = name.removesuffix(".delta")
        u, s, vh = torch.linalg.svd(torch.tensor(array, dtype=torch.float64), full_matrices=False)
        best = (u[:, :5] * s[:5]) @ vh[:5]
        down, up = (torch.tensor(found[f"{module}.{half}"]) for half in ("down", "up"))
        assert (up @ down - best).abs().max() < 1e-6, module
        lost, whole = lost + s[5:].square().sum().item(), whole + s.square().sum().item()
    assert error == pytest.approx((lost / whole) ** 0.5, rel=1e-5)


def test_metadata_of_an_export(sd15: Case, tmp_path: Path) -> None:
    """What diffusers asks for, with the rank as alpha: the commonest for all, the others by name."""
    deltas = _core.Deltas.from_arrays(low_rank(sd15), {}, sd15.core, True)
    path, _ = exported(deltas, tmp_path, "diffusers")
    with safe_open(path, "pt") as file:
        metadata, keys = file.metadata(), file.keys()
    assert metadata["format"] == "pt"
    config = json.loads(metadata["lora_adapter_metadata"])
    assert (config["unet.r"], config["unet.lora_alpha"]) == (4, 4)
    ranks = {module: lora_files.RANKS[projection(module)] for module in modules(sd15.reference.unet)}
    expected = {module: rank for module, rank in ranks.items() if rank != 4}
    assert config["unet.rank_pattern"] == config["unet.alpha_pattern"] == expected
    assert sorted(config["unet.target_modules"]) == sorted(ranks)
    assert sorted(keys) == sorted(f"unet.{m}.lora_{half}.weight" for m in ranks for half in "AB")


def test_an_unknown_format_is_refused(sd15: Case, tmp_path: Path) -> None:
    deltas = _core.Deltas.from_arrays(low_rank(sd15), {}, sd15.core, True)
    with pytest.raises(ConfigError, match="webui"):
        deltas.export_lora(str(tmp_path / "x"), "webui", None)
    with pytest.raises(ConfigError, match="rank"):
        deltas.export_lora(str(tmp_path / "x"), "diffusers", 0)
    assert not list(tmp_path.iterdir())
