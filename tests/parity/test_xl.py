"""Stable Diffusion XL against diffusers and transformers, on a tiny checkpoint in the published layout."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionXLPipeline
from tests.parity import lora_files
from tests.parity.case import SCORE_TOLERANCE, TENSOR_TOLERANCE, Case, relative
from tests.parity.generating import NEGATIVE, check, latents, ours, theirs
from tests.parity.test_lora import difference
from tests.parity.test_reference_xl import LAYERS
from tests.parity.training_case import LOSS_TOLERANCE, TrainingCase, assert_close

from discffusion import CheckpointError, ConfigError, ScoreConfig, Scorer, Trainer, _native
from discffusion.bench.reference.model import Reference
from discffusion.errors import DeltasError

_core = _native.core()
KINDS = ("sdxl", "sdxlv")
TIMES = (1, 101, 501, 741, 981)


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest, checkpoint: Callable[..., Path]) -> Case:
    return Case(checkpoint(request.param))


@pytest.fixture(scope="module")
def xl(checkpoint: Callable[..., Path]) -> Case:
    return Case(checkpoint("sdxl"))


def test_what_it_is(xl: Case) -> None:
    info = json.loads(xl.core.info())
    assert (info["family"], info["resolution"], info["max_tokens"]) == ("stable_diffusion_xl", 128, 77)
    reference = xl.reference
    sizes = {
        "unet": reference.unet,
        "text_encoder": reference.encoders[0].model,
        "text_encoder_2": reference.encoders[1].model,
        "vae_encoder": reference.vae.encoder,
    }
    for part, network in sizes.items():
        found = info["num_parameters"][part]
        own = sum(weight.numel() for weight in network.parameters())
        # the autoencoder's first half has a 1x1 convolution beside the encoder
        assert found == own + (
            sum(w.numel() for w in reference.vae.quant_conv.parameters()) if "vae" in part else 0
        )


@pytest.mark.parametrize("text", ["", "a dog", "Hello!!! a red-orange cat, 猫", "word " * 90])
def test_texts(xl: Case, text: str) -> None:
    """Both tokenizers' ids (the second pads with "!"), the context, and the pooled vector."""
    tokens = xl.core.tokenize(text, "silent")
    for ids, encoder in zip(tokens["ids_by_encoder"], xl.reference.encoders, strict=True):
        assert ids.tolist() == encoder.tokens(text)[0][0].tolist()
    expected = xl.reference.condition(text)
    config = xl.config(truncate="silent")
    assert relative(xl.core.encode_texts([text, "a dog"], config)[0], expected.context) <= TENSOR_TOLERANCE
    assert relative(xl.core.encode_pooled(["a dog", text], config)[1], expected.pooled) <= TENSOR_TOLERANCE


@pytest.mark.parametrize("resolution", [128, 96])
def test_latents(case: Case, resolution: int) -> None:
    at_size = Case(case.folder, resolution=resolution)
    expected = torch.stack([case.reference.latent(image, resolution) for image in at_size.images])
    assert (
        relative(at_size.core.encode_images(at_size.images, at_size.config()), expected) <= TENSOR_TOLERANCE
    )


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("map", ["probs", "logits", "cosine"])
def test_prediction_and_all_maps(case: Case, t: int, map: str) -> None:
    noise = case.noise.get(t, case.noise[case.timesteps[0]])
    z_t = case.reference.noised(case.reference.latent(case.images[0], 128), noise, t)
    expected = case.reference.observe(z_t, t, case.reference.condition(case.texts[0]))
    seen = case.observe(t, map)
    assert list(seen["maps"]) == LAYERS
    errors = {layer: relative(seen["maps"][layer], expected.map(layer, map)) for layer in LAYERS}
    errors["prediction"] = relative(seen["prediction"], expected.prediction)
    wrong = {place: error for place, error in errors.items() if not error <= TENSOR_TOLERANCE}
    assert not wrong


SCORES: tuple[dict[str, Any], ...] = (
    {},
    {"map": "logits", "layers": "last_blocks"},
    {"map": "cosine", "layers": ["down.2.1.2", "mid.0.0"], "lambda_": 10.0},
    {"heads": "attributed", "tokens": "content"},
    {"pooling": "max_row", "layers": "last(3)"},
    {"heads": [1, 0], "pooling": "mean", "layers": "up"},
    {"method": "denoising"},
    {"method": "denoising", "denoising_error": "mse", "unconditional": False},
    {"method": "combined", "denoising_weight": 0.5, "map": "logits"},
)


@pytest.mark.parametrize("fields", SCORES, ids=str)
def test_scores(case: Case, fields: Mapping[str, Any]) -> None:
    """The row without a text is zeros, as the pipeline's is where no negative prompt is given."""
    pairs = [(0, 0), (0, 1), (1, 0), (1, 1)]
    expected = np.array([case.recording.score(i, j, **fields) for i, j in pairs])
    # a combined score is a difference of numbers of this size
    size = np.abs(expected).max()
    assert np.abs(case.scores(pairs, **fields) - expected).max() <= SCORE_TOLERANCE * size


def test_the_unconditional_text_is_what_the_pipeline_says(xl: Case, tmp_path: Path) -> None:
    """`force_zeros_for_empty_prompt` decides: zeros, or the empty text as the encoders see it."""
    folder = shutil.copytree(xl.folder, tmp_path / "model")
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    (folder / "model_index.json").write_text(json.dumps({**index, "force_zeros_for_empty_prompt": False}))
    other = Case(folder)
    fields = {"method": "denoising"}
    expected = other.recording.score(0, 0, **fields)
    assert other.scores([(0, 0)], **fields)[0] == pytest.approx(expected, rel=1e-4)
    assert abs(expected - xl.recording.score(0, 0, **fields)) > 1e-3


def pipeline(folder: Path, **parts: Any) -> Any:
    """diffusers' pipeline of a folder with DDIM; `parts` are in memory already."""
    made: Any = StableDiffusionXLPipeline.from_pretrained(
        folder, torch_dtype=torch.float32, add_watermarker=False, **parts
    )
    made.scheduler = DDIMScheduler.from_config(DDIMScheduler.load_config(folder, subfolder="scheduler"))
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.parametrize("negative", [None, NEGATIVE, ""])
def test_images(case: Case, negative: str | None) -> None:
    """Without a negative prompt it is zeros that guidance leads away from; an empty one is encoded."""
    noise = latents(2)
    expected = theirs(pipeline(case.folder), noise, negative_prompt=negative, num_images_per_prompt=2)
    scorer = Scorer(case.folder, device="cpu", dtype="float32")
    given = {} if negative is None else {"negative_prompt": negative}
    check(ours(scorer, noise, **given), expected)


def test_the_pipelines_own_guidance(xl: Case) -> None:
    noise = latents(1)
    scorer = Scorer(xl.folder, device="cpu", dtype="float32")
    found = ours(scorer, noise, guidance_scale=None)
    check(found, theirs(pipeline(xl.folder), noise, guidance_scale=5.0))


TRAINED: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    ({"loss": "triplet", "rank": 4}, {"map": "logits"}),
    ({"loss": "triplet", "recompute": True}, {"method": "denoising"}),
    ({"loss": "cross_entropy", "temperature": 0.5}, {"map": "cosine", "layers": "last(2)"}),
    ({"loss": "diffusion"}, {}),
)


@pytest.fixture(scope="module")
def training(checkpoint: Callable[..., Path]) -> TrainingCase:
    made = TrainingCase(checkpoint("sdxl", seed=1))
    made.__dict__["reference"] = Reference(made.folder)
    return made


@pytest.mark.parametrize(("options", "fields"), TRAINED, ids=str)
def test_gradients_of_deltas(training: TrainingCase, options: dict[str, Any], fields: dict[str, Any]) -> None:
    trainer = training.trainer(options, fields)
    arrays = trainer.deltas().arrays()
    found = trainer.gradients([0, 1])
    expected = training.expected(found, arrays, [0, 1], options, fields)
    assert found["loss"] == pytest.approx(expected.loss, rel=LOSS_TOLERANCE)
    assert_close(found["gradients"], expected.gradients)


def merging(pairs: lora_files.Pairs) -> lora_files.Loader:
    """The pairs' products added to diffusers' weights by hand, whatever the file."""

    def merge(reference: Any, _: Path) -> None:
        for module, (down, up) in pairs.items():
            reference.unet.get_submodule(module).weight += up @ down

    return merge


@pytest.mark.parametrize("layout", ["diffusers", "kohya"])
def test_lora_in(xl: Case, tmp_path: Path, layout: str) -> None:
    """The same file changes our maps and diffusers' alike."""
    pairs = lora_files.random_pairs(xl.reference.unet)
    path = lora_files.write(tmp_path / "lora.safetensors", getattr(lora_files, layout)(pairs))
    reference = Reference(xl.folder)
    loader = lora_files.by_adapter() if layout == "diffusers" else merging(pairs)
    loader(reference, path)
    adapted = Case(xl.folder)
    adapted.__dict__["core"] = xl.core.with_deltas(_core.Deltas.load(str(path), xl.core, True), None)
    assert difference(xl, reference) > 0.05
    assert difference(adapted, reference) < 1e-5


def test_lora_out(xl: Case, tmp_path: Path) -> None:
    """What we export, diffusers' pipeline loads, and shows the same attention with."""
    pairs = lora_files.random_pairs(xl.reference.unet, seed=1)
    arrays = {f"{m}.{n}": h.numpy() for m, p in pairs.items() for n, h in zip(("down", "up"), p, strict=True)}
    deltas = _core.Deltas.from_arrays(arrays, {}, xl.core, True)
    path = tmp_path / "pytorch_lora_weights.safetensors"
    assert deltas.export_lora(str(path), "diffusers", None) == 0
    pipe = pipeline(xl.folder)
    pipe.load_lora_weights(tmp_path, weight_name=path.name)
    reference = Reference(xl.folder)
    lora_files.fuse(pipe, pipe.unet, reference.unet)
    adapted = Case(xl.folder)
    adapted.__dict__["core"] = xl.core.with_deltas(deltas, None)
    assert difference(xl, reference) > 0.05
    assert difference(adapted, reference) < 1e-5


def test_lora_of_text_encoders_is_refused_by_name(xl: Case, tmp_path: Path) -> None:
    pair = {"lora_te2_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight": torch.ones(2, 48)}
    path = lora_files.write(tmp_path / "lora.safetensors", pair)
    with pytest.raises(DeltasError, match="lora_te2_text_model.*text encoder"):
        _core.Deltas.load(str(path), xl.core, True)


def test_deltas_of_another_family_are_refused(
    xl: Case, checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    other = Case(checkpoint("sd21"))
    trainer = Trainer(Scorer(other.folder, device="cpu"), layers="last(1)")
    trainer.deltas.save(tmp_path / "deltas.safetensors")
    with pytest.raises(DeltasError, match="another architecture"):
        _core.Deltas.load(str(tmp_path / "deltas.safetensors"), xl.core, True)


def test_a_refiner_is_refused_by_name(xl: Case, tmp_path: Path) -> None:
    folder = shutil.copytree(xl.folder, tmp_path / "model")
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    refiner = {**index, "_class_name": "StableDiffusionXLImg2ImgPipeline", "requires_aesthetics_score": True}
    (folder / "model_index.json").write_text(json.dumps(refiner))
    with pytest.raises(CheckpointError, match="is a StableDiffusionXLImg2ImgPipeline.*refiner"):
        Scorer(folder)
    with pytest.raises(CheckpointError, match="refiner"):
        _core.Scorer.load(str(folder), None, "cpu", "float32")


def test_parts_that_do_not_fit_are_named(xl: Case, tmp_path: Path) -> None:
    folder = shutil.copytree(xl.folder, tmp_path / "model")
    path = folder / "unet" / "config.json"
    config = json.loads(path.read_text("utf-8"))
    for field, what in (
        ("cross_attention_dim", "text vectors of width 64"),
        ("projection_class_embeddings_input_dim", "64 numbers beside the time"),
    ):
        path.write_text(json.dumps({**config, field: 64}))
        with pytest.raises(CheckpointError, match=what):
            _core.Scorer.load(str(folder), None, "cpu", "float32")
    path.write_text(json.dumps({**config, "addition_embed_type": "image"}))
    with pytest.raises(CheckpointError, match="addition_embed_type is"):
        _core.Scorer.load(str(folder), None, "cpu", "float32")


def test_half_precision_files(xl: Case, checkpoint: Callable[..., Path]) -> None:
    """A single set of `fp16` files, as most fine-tunes ship, is found without naming the variant."""
    folder = checkpoint("sdxl", dtype="float16", variant="fp16")
    scorer = Scorer(folder, device="cpu", dtype="float32")
    wide = Scorer(checkpoint("sdxl"), device="cpu", dtype="float32")
    images, texts = xl.images[:1], list(xl.texts)
    np.testing.assert_allclose(scorer.matrix(images, texts), wide.matrix(images, texts), atol=0.02)


def test_bfloat16(xl: Case) -> None:
    half = Scorer(xl.folder, device="cpu", dtype="bfloat16")
    single = Scorer(xl.folder, device="cpu", dtype="float32")
    config = ScoreConfig(method="attention", map="cosine", layers="last(1)", steps=2)
    scores = [s.with_config(config).matrix(xl.images, list(xl.texts)) for s in (half, single)]
    np.testing.assert_allclose(*scores, atol=0.02)


def test_every_use_of_it(xl: Case) -> None:
    """A scorer of it does what any scorer does."""
    scorer = Scorer(xl.folder, device="cpu").with_config(ScoreConfig(steps=2))
    image, text = xl.images[0], xl.texts[0]
    assert np.isfinite(scorer.score(image, text))
    ranking = scorer.rank(image, list(xl.texts))
    assert len(ranking) == 2
    attention = scorer.with_config(ScoreConfig(method="attention", layers="mid", steps=2))
    explained = attention.explain(image, text)
    assert sum(c.sum() for c in explained.contributions.values()) == pytest.approx(explained.score, rel=1e-4)
    assert list(attention.head_weights(image, text)) == ["mid.0.0", "mid.0.1", "mid.0.2"]
    with pytest.raises(ConfigError, match=r"layers names 'mid\.0'|this model has down\.1\.0\.0"):
        scorer.with_config(ScoreConfig(layers=["mid.0"]))
    with pytest.raises(ConfigError, match='layers is "middle"'):
        scorer.with_config(ScoreConfig(layers="middle"))
