"""All implementations compute the same scores; one that does not is found out."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from discffusion.bench.clock import Clock
from discffusion.bench.implementations import (
    IMPLEMENTATIONS,
    OURS,
    Implementation,
    ModelSpec,
    chosen,
    load_others,
)
from discffusion.bench.implementations.ours import Ours
from discffusion.bench.runner import DisagreementError, Repeats, compare
from discffusion.bench.settings import BenchSettings, make_settings
from discffusion.bench.workloads import Draw, Workload, draw
from discffusion.errors import ConfigError

STEPS, RESOLUTION = 2, 64


@pytest.fixture(scope="module")
def implementations(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Implementation]:
    from tests.fixtures.make_checkpoint import write_checkpoint

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    spec = ModelSpec(write_checkpoint(tmp_path_factory.mktemp("bench") / "model", "sd21"))
    yield {OURS: Ours(spec), **load_others(spec, IMPLEMENTATIONS)}
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def own() -> Draw:
    return draw(Workload(2, 3), RESOLUTION)


def settings_of(implementations: dict[str, Implementation], **how: Any) -> BenchSettings:
    ours: Any = implementations[OURS]
    return make_settings(ours.scorer, STEPS, RESOLUTION, **how)


def apart(found: np.ndarray, ours: np.ndarray) -> float:
    return float(np.abs(found - ours).max() / np.abs(ours).mean())


@pytest.mark.parametrize("method", ["attention", "combined"])
def test_load_all_agree(implementations: dict[str, Implementation], own: Draw, method: str) -> None:
    settings = settings_of(implementations, method=method)
    found = {}
    for name, implementation in implementations.items():
        implementation.prepare()
        found[name] = implementation.matrix(own.images, own.texts, settings)
        assert found[name].shape == (2, 3) and found[name].dtype == np.float64
    assert list(found) == list(IMPLEMENTATIONS)
    for name, scores in found.items():
        assert apart(scores, found[OURS]) < 1e-5, name
    # The scores do differ from pair to pair, so that agreement means something.
    assert np.ptp(found[OURS], axis=0).min() > 1e-4 and np.ptp(found[OURS], axis=1).min() > 1e-4


@pytest.mark.parametrize("map", ["probs", "cosine"])
def test_other_maps(implementations: dict[str, Implementation], own: Draw, map: str) -> None:
    settings = settings_of(implementations, map=map)
    expected = implementations[OURS].matrix(own.images, own.texts, settings)
    for name in ("diffusers-batched", "diffusers-loop"):
        implementations[name].prepare()
        assert apart(implementations[name].matrix(own.images, own.texts, settings), expected) < 1e-5
    for name in ("released-1", "released-16"):
        assert "logits" in str(implementations[name].unable(6, settings))


def test_batches_and_formats_change_nothing(implementations: dict[str, Implementation], own: Draw) -> None:
    implementation: Any = implementations["diffusers-batched"]
    settings = settings_of(implementations, method="combined")
    expected = implementations[OURS].matrix(own.images, own.texts, settings)
    before = implementation.batch, implementation.formats
    for batch, layout in ((1, "contiguous"), (5, "channels_last"), (64, "channels_last")):
        implementation.batch, implementation.formats = batch, {"unet": layout, "vae": layout}
        implementation.prepare()
        assert apart(implementation.matrix(own.images, own.texts, settings), expected) < 1e-5
    implementation.batch, implementation.formats = before


def test_tuning_chooses_within_bounds(implementations: dict[str, Implementation]) -> None:
    settings = settings_of(implementations)
    for name, largest in (("diffusers-batched", 3), ("diffusers-loop", 1)):
        implementations[name].tune(settings, 3, Clock())
        about = implementations[name].about
        assert 1 <= about["batch"] <= largest
        assert set(about["formats"].values()) <= {"contiguous", "channels_last"}


def test_released_forms_every_map_and_both_halves(
    implementations: dict[str, Implementation], own: Draw
) -> None:
    """Self-attention's log-sum-exp is taken too, the image encoded at each timestep, and two texts for each pair."""
    implementation: Any = implementations["released-1"]
    model, seen = implementation.model, {"images": 0, "texts": 0, "batch": set()}
    plain = {name: getattr(model, name) for name in ("encode_images", "encode_texts", "predict")}

    def images(pixels: Any) -> Any:
        seen["images"] += len(pixels)
        return plain["encode_images"](pixels)

    def texts(given: Sequence[str]) -> Any:
        seen["texts"] += len(given)
        return plain["encode_texts"](given)

    def predict(noised: Any, times: Any, vectors: Any) -> Any:
        seen["batch"].add(len(noised))
        return plain["predict"](noised, times, vectors)

    model.encode_images, model.encode_texts, model.predict = images, texts, predict
    try:
        implementation.prepare()
        implementation.matrix(own.images, own.texts, settings_of(implementations))
    finally:
        for name in plain:
            delattr(model, name)
    assert seen == {"images": 6 * STEPS, "texts": 12, "batch": {2}}
    processors = model.unet.attn_processors
    assert len(processors) == 2 * len(model.layers)
    assert {type(one).__name__ for one in processors.values()} == {"ExplicitProcessor"}


def test_released_is_left_out_where_its_maps_do_not_fit(implementations: dict[str, Implementation]) -> None:
    implementation: Any = implementations["released-16"]
    settings = settings_of(implementations)
    assert implementation.unable(1, settings) == "one pair makes no batch"
    assert implementation.unable(4, settings) is None
    # 8×8 latents: three maps of 64 × 64 for the heads of 2 · 4 samples, four bytes each
    heads = implementation.model.unet.config.attention_head_dim[0]
    assert implementation.needed(4, settings) == 3 * 2 * 4 * heads * 64 * 64 * 4
    vast = BenchSettings((1,), np.zeros((1, 4, 2048, 2048), np.float32), 16384)
    assert "GB are free" in implementation.unable(16, vast)


def test_xl_against_the_reference(tmp_path: Path, own: Draw) -> None:
    """Two text encoders, no text as zeros, and layers of several blocks: the scores of the reference."""
    from tests.fixtures.make_checkpoint import write_checkpoint

    from discffusion.bench.reference.model import Reference
    from discffusion.bench.reference.scores import Recording

    folder = write_checkpoint(tmp_path / "model", "sdxl")
    noise = np.random.default_rng(0).standard_normal((STEPS, 4, 8, 8), dtype=np.float32)
    settings = BenchSettings((801, 301), noise, RESOLUTION, "combined")
    reference = Reference(folder)
    pixels = [np.asarray(PIL.Image.open(io.BytesIO(image)).convert("RGB")) for image in own.images]
    with torch.no_grad():
        latents = [reference.latent(image, RESOLUTION) for image in pixels]
        own_noise = {t: torch.from_numpy(eps) for t, eps in zip(settings.timesteps, noise, strict=True)}
        recording = Recording(reference, latents, own.texts, own_noise)
    how: dict[str, Any] = {"method": "combined", "map": "logits"}
    expected = np.array([[recording.score(i, j, **how) for j in range(3)] for i in range(2)])
    assert np.ptp(expected, axis=0).min() > 1e-3 and np.ptp(expected, axis=1).min() > 1e-3
    for name, one in load_others(ModelSpec(folder), IMPLEMENTATIONS).items():
        one.prepare()
        assert apart(one.matrix(own.images, own.texts, settings), expected) < 1e-5, name


class Liar:
    """Scores of ours, a little changed."""

    about: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, ours: Implementation, change: float) -> None:
        self.ours, self.change = ours, change

    def prepare(self) -> None: ...

    def tune(self, settings: BenchSettings, rows: int, clock: Clock) -> None: ...

    def unable(self, pairs: int, settings: BenchSettings) -> str | None:
        return None

    def matrix(self, images: Sequence[bytes], texts: Sequence[str], settings: BenchSettings) -> np.ndarray:
        return self.ours.matrix(images, texts, settings) * self.change


def test_an_implementation_with_other_scores_is_an_error(implementations: dict[str, Implementation]) -> None:
    settings, workload = settings_of(implementations), Workload(1, 2)
    for change in (1.001, float("nan")):
        pair = {OURS: implementations[OURS], "liar": Liar(implementations[OURS], change)}
        with pytest.raises(DisagreementError, match="liar"):
            compare(pair, workload, settings, repeats=Repeats(1), clock=Clock())
    honest = {OURS: implementations[OURS], "liar": Liar(implementations[OURS], 1.00001)}
    found = compare(honest, workload, settings, repeats=Repeats(2, warm_up=0), clock=Clock())
    assert found.apart["liar"] == pytest.approx(1e-5, rel=0.3)
    assert len(found.times["liar"].seconds) == 2


def test_compare_says_who_is_left_out(implementations: dict[str, Implementation], tmp_path: Path) -> None:
    found = compare(
        implementations, Workload(1, 1), settings_of(implementations), repeats=Repeats(1), clock=Clock()
    )
    assert found.left_out == {"released-16": "one pair makes no batch"}
    assert set(found.times) == set(IMPLEMENTATIONS) - {"released-16"}
    assert all(found.apart[name] < 1e-5 for name in found.times)


def test_names() -> None:
    assert chosen(["released", "diffusers-loop"]) == ["released-1", "released-16", "diffusers-loop"]
    assert chosen(["diffusers", "diffusers-loop"]) == ["diffusers-batched", "diffusers-loop"]
    assert chosen([]) == []
    with pytest.raises(ConfigError, match="'jax'"):
        chosen(["jax"])
