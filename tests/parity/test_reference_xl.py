"""The PyTorch reference of Stable Diffusion XL against diffusers' own pipeline, on a tiny checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from tests.fixtures.published import configs
from tests.parity.case import picture, relative

from discffusion.bench.reference.layers import layer_names
from discffusion.bench.reference.model import Reference
from discffusion.bench.reference.pooling import select
from discffusion.bench.reference.scores import Recording

TEXT = "a photo of a black cat under the wooden table"
LAYERS = [
    *(f"down.1.{i}.{k}" for i in range(2) for k in range(2)),
    *(f"down.2.{i}.{k}" for i in range(2) for k in range(3)),
    *(f"mid.0.{k}" for k in range(3)),
    *(f"up.0.{i}.{k}" for i in range(3) for k in range(3)),
    *(f"up.1.{i}.{k}" for i in range(3) for k in range(2)),
]


@pytest.fixture(scope="module", params=["sdxl", "sdxlv"])
def folder(request: pytest.FixtureRequest, checkpoint: Callable[..., Path]) -> Path:
    return checkpoint(request.param)


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    return Reference(folder)


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Any:
    loaded = StableDiffusionXLPipeline.from_pretrained(
        folder, torch_dtype=torch.float32, add_watermarker=False
    )
    loaded.set_progress_bar_config(disable=True)
    return loaded


def test_layers(reference: Reference) -> None:
    assert reference.layer_names() == LAYERS
    assert select(LAYERS, "last_blocks") == [
        layer for layer in LAYERS if layer.startswith(("down.2", "mid", "up.1"))
    ]


def test_tokens(reference: Reference) -> None:
    """The same but for what they are padded with."""
    (first, own), (second, other) = (encoder.tokens(TEXT) for encoder in reference.encoders)
    assert own == other and own.start == 1
    end = own.stop
    assert first[0, : end + 1].tolist() == second[0, : end + 1].tolist()
    assert set(first[0, end:].tolist()) == {reference.tokenizer.eos_token_id}
    assert set(second[0, end + 1 :].tolist()) == {0}


@pytest.mark.parametrize("text", [TEXT, "word " * 75, "Ein Hund, 猫 & a 😀!"])
def test_texts(reference: Reference, pipeline: Any, text: str) -> None:
    """Context, pooled vector, and those of no text, as the pipeline has them."""
    context, empty_context, pooled, empty_pooled = pipeline.encode_prompt(text)
    ours, empty = reference.condition(text), reference.unconditional()
    assert relative(ours.context, context[0]) == relative(ours.pooled, pooled[0]) == 0
    assert torch.equal(empty.context, empty_context[0]) and torch.equal(empty.pooled, empty_pooled[0])
    assert not empty.context.any() and not empty.pooled.any()


def test_empty_text_where_no_zeros_are_forced(folder: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(folder, tmp_path / "model")
    path = copied / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "force_zeros_for_empty_prompt": False}))
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        copied, torch_dtype=torch.float32, add_watermarker=False
    )
    _, empty_context, _, empty_pooled = pipeline.encode_prompt(TEXT)
    empty = Reference(copied).unconditional()
    assert torch.equal(empty.context, empty_context[0]) and torch.equal(empty.pooled, empty_pooled[0])
    assert empty.context.any()


def test_unet_gets_what_the_pipeline_gives_it(reference: Reference, pipeline: Any) -> None:
    """At the pipeline's first step: the recorded prediction is that of diffusers' own attention, in float64."""
    calls: list[tuple[Any, Any]] = []
    unet = pipeline.unet

    def record(*args: Any, **arguments: Any) -> Any:
        calls.append((args, arguments))
        return UNet2DConditionModel.forward(unet, *args, **arguments)

    unet.forward = record
    try:
        generator = torch.Generator().manual_seed(3)
        pipeline(TEXT, num_inference_steps=2, guidance_scale=5.0, generator=generator, output_type="latent")
    finally:
        del unet.forward
    (z_t, t), arguments = calls[0]
    conditionings = [reference.unconditional(), reference.condition(TEXT)]
    ours = reference.unet_arguments(z_t, conditionings)
    theirs = arguments["added_cond_kwargs"]
    torch.testing.assert_close(
        ours["encoder_hidden_states"], arguments["encoder_hidden_states"], rtol=0, atol=0
    )
    for name, value in ours["added_cond_kwargs"].items():
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=0)

    doubled = UNet2DConditionModel.from_config(unet.config).double()
    doubled.load_state_dict(unet.state_dict())
    predictions = doubled(z_t.double(), t, **reference.unet_arguments(z_t.double(), conditionings)).sample
    reference.unet.double()
    try:
        seen = [reference.observe(z_t[0].double(), int(t), condition) for condition in conditionings]
    finally:
        reference.unet.float()
    for observation, prediction in zip(seen, predictions, strict=True):
        assert relative(observation.prediction, prediction) <= 1e-12
        assert list(observation.layers) == LAYERS


def test_noised_latent_is_what_the_pipelines_scheduler_makes(reference: Reference, pipeline: Any) -> None:
    """Scaled as the scheduler scales the UNet's input; the last timestep of `sdxlv` is pure noise but for the least
    ᾱ that Euler's method needs."""
    z, noise = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    pipeline.scheduler.set_timesteps(5)
    for t in pipeline.scheduler.timesteps:
        pipeline.scheduler._step_index = None
        theirs = pipeline.scheduler.add_noise(z[None], noise[None], t[None])
        theirs = pipeline.scheduler.scale_model_input(theirs, t)[0]
        assert relative(reference.noised(z, noise, int(t)), theirs) <= 3e-4
    assert [int(t) for t in pipeline.scheduler.timesteps] == reference.timesteps(5)


def test_maps_and_scores_differ_between_texts(reference: Reference) -> None:
    """Weights are such that a mistake is seen: no map is flat, and every part of the condition counts."""
    z = reference.latent(picture(1), 128)
    assert 0.3 < float(z.std()) < 3
    noise = torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(2))
    recording = Recording(reference, [z], [TEXT, "two boats on a river"], {501: noise})
    for method in ("attention", "denoising", "combined"):
        scores = [recording.score(0, j, method=method, map="logits") for j in range(2)]
        assert abs(scores[0] - scores[1]) > 1e-3 * abs(scores[0])
    seen = recording.pairs[0, 0, 501]
    for layer in LAYERS:
        probs = seen.map(layer, "probs")
        divergence = (probs * (probs * 77).log()).sum(-1).mean()  # from equal attention to all tokens
        assert 0.02 < float(divergence) < 3, layer
    own = reference.condition(TEXT)
    for other in (
        type(own)(own.context, torch.zeros_like(own.pooled)),
        type(own)(torch.zeros_like(own.context), own.pooled),
    ):
        z_t = reference.noised(z, noise, 501)
        assert relative(reference.observe(z_t, 501, other).prediction, seen.prediction) > 0.01


def test_published_size() -> None:
    """2,567 M parameters, 70 cross-attention layers, 1,300 heads."""
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(configs("sdxl", "full")["unet"])
    assert sum(p.numel() for p in unet.parameters()) == 2_567_463_684
    names = layer_names(unet.attn_processors)
    modules = [unet.get_submodule(key.removesuffix(".processor")) for key in names.values()]
    assert (len(names), sum(module.heads for module in modules)) == (70, 1300)
    assert list(names)[:2] == ["down.1.0.0", "down.1.0.1"] and list(names)[-1] == "up.1.2.1"
    assert "up.0.2.9" in names and "mid.0.9" in names
