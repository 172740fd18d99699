"""Stable Diffusion 3 and 3.5 against diffusers and transformers, on tiny checkpoints in the published layout: with and
without norms of queries and keys, and with blocks of dual attention."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from diffusers.models.attention_processor import JointAttnProcessor2_0
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from tests.parity import lora_files
from tests.parity.case import SCORE_TOLERANCE, TENSOR_TOLERANCE, Case, relative
from tests.parity.generating import NEGATIVE, PROMPT, check, latents, ours, theirs
from tests.parity.training_case import LOSS_TOLERANCE, TrainingCase, assert_close

from discffusion import CheckpointError, ConfigError, ScoreConfig, Scorer, _native
from discffusion.bench.reference.joint import JointReference
from discffusion.errors import DeltasError

_core = _native.core()
KINDS = ("sd3", "sd35", "sd35l")
TIMES = (1, 101, 500.5, 741, 1000)
LAYERS = [f"block.{i}" for i in range(4)]
MAPS = ("probs", "logits", "cosine", "text_probs")
CHANNELS = 16
# Of the projections of joint attention.
RANKS = {**lora_files.RANKS, "add_q_proj": 2, "add_k_proj": 4, "add_v_proj": 4, "to_add_out": 3}


def case_of(folder: Path) -> Case:
    return Case(folder, channels=CHANNELS)


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest, checkpoint: Callable[..., Path]) -> Case:
    return case_of(checkpoint(request.param))


@pytest.fixture(scope="module")
def sd3(checkpoint: Callable[..., Path]) -> Case:
    return case_of(checkpoint("sd3"))


@pytest.fixture(scope="module")
def sd35(checkpoint: Callable[..., Path]) -> Case:
    return case_of(checkpoint("sd35"))


def test_what_it_is(case: Case) -> None:
    info = json.loads(case.core.info())
    assert (info["family"], info["resolution"], info["max_tokens"]) == ("stable_diffusion_3", 128, 77)
    assert (info["latent_channels"], info["num_train_timesteps"]) == (CHANNELS, 1000)
    assert [(layer["name"], layer["group"], layer["heads"]) for layer in info["layers"]] == [
        (name, "block", 4) for name in LAYERS
    ]
    assert info["absent_parts"] == ["text_encoder_3", "tokenizer_3"]
    reference = case.reference
    sizes = {
        "transformer": reference.unet,
        "text_encoder": reference.encoders[0].model,
        "text_encoder_2": reference.encoders[1].model,
        "vae_encoder": reference.vae.encoder,
    }
    for part, network in sizes.items():
        assert info["num_parameters"][part] == sum(weight.numel() for weight in network.parameters())


def test_a_checkpoint_with_t5_is_refused(sd3: Case, tmp_path: Path) -> None:
    """Zeros in place of T5's vectors would be another model's scores."""
    folder = shutil.copytree(sd3.folder, tmp_path / "model")
    index = json.loads((folder / "model_index.json").read_text())
    index |= {
        "text_encoder_3": ["transformers", "T5EncoderModel"],
        "tokenizer_3": ["transformers", "T5TokenizerFast"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"text_encoder_3.*is not read yet"):
        Scorer(folder, device="cpu")


@pytest.mark.parametrize("text", ["", "a dog", "Hello!!! a red-orange cat, 猫", "word " * 90])
def test_texts(sd3: Case, text: str) -> None:
    """Token ids, context and pooled vector are those of the pipeline, without T5."""
    tokens = sd3.core.tokenize(text, "silent")
    for ids, encoder in zip(tokens["ids_by_encoder"], sd3.reference.encoders, strict=True):
        assert ids.tolist() == encoder.tokens(text)[0][0].tolist()
    context, _, pooled, _ = pipeline(sd3.folder).encode_prompt(text, None, None)
    assert context.shape[1:] == (77 + 256, 96)
    expected = sd3.reference.condition(text)
    assert relative(expected.context, context[0]) == relative(expected.pooled, pooled[0]) == 0
    config = sd3.config(truncate="silent")
    assert relative(sd3.core.encode_texts([text, "a dog"], config)[0], context[0]) <= TENSOR_TOLERANCE
    assert relative(sd3.core.encode_pooled(["a dog", text], config)[1], pooled[0]) <= TENSOR_TOLERANCE


def test_columns_say_whose_they_are(sd3: Case) -> None:
    """Of T5, which is absent, no column is the text's own."""
    seen = Scorer(sd3.folder, device="cpu").observe(sd3.images[0], "a dog", 500, layers="last(1)")
    clip, t5 = seen.tokens.segments
    assert (clip.encoder, clip.columns, clip.content) == ("clip", range(77), range(1, 3))
    assert (t5.encoder, t5.columns, t5.content) == ("t5", range(77, 333), None)
    assert seen.tokens.content == range(1, 3)
    assert seen.tokens.strings[1:3] == ("a</w>", "dog</w>")
    assert set(seen.tokens.ids[77:].tolist()) == {-1}
    assert seen.maps["block.3"].shape == (4, 64, 333)


@pytest.mark.parametrize("resolution", [128, 96])
def test_latents(case: Case, resolution: int) -> None:
    at_size = Case(case.folder, resolution=resolution, channels=CHANNELS)
    expected = torch.stack([case.reference.latent(image, resolution) for image in at_size.images])
    assert (
        relative(at_size.core.encode_images(at_size.images, at_size.config()), expected) <= TENSOR_TOLERANCE
    )


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("map", MAPS)
def test_prediction_and_all_maps(case: Case, t: float, map: str) -> None:
    noise = case.noise[case.timesteps[0]]
    z_t = case.reference.noised(case.reference.latent(case.images[0], 128), noise, t)
    expected = case.reference.observe(z_t, t, case.reference.condition(case.texts[0]))
    config, image = case.config(), case.images[0]
    seen = case.core.observe(image, case.texts[0], t, None, map, True, config, noise.numpy())
    assert list(seen["maps"]) == LAYERS
    errors = {layer: relative(seen["maps"][layer], expected.map(layer, map)) for layer in LAYERS}
    errors["prediction"] = relative(seen["prediction"], expected.prediction)
    wrong = {place: error for place, error in errors.items() if not error <= TENSOR_TOLERANCE}
    assert not wrong
    # the network goes on as it would without being observed
    alone = case.core.observe(image, case.texts[0], t, [], map, True, config, noise.numpy())
    assert not alone["maps"]
    assert relative(alone["prediction"], expected.prediction) <= TENSOR_TOLERANCE


def test_the_recorded_attention_is_diffusers_own(sd35: Case) -> None:
    """What the maps are compared with is what diffusers' processors compute."""
    reference = JointReference(sd35.folder)
    z_t, t = sd35.noise[741][None], torch.tensor([741.0])
    arguments = reference.unet_arguments(z_t, [reference.condition("a dog")])
    recorded = reference.unet.double()(z_t.double(), timestep=t, **_double(arguments)).sample
    reference.unet.set_attn_processor(JointAttnProcessor2_0())
    own = reference.unet(z_t.double(), timestep=t, **_double(arguments)).sample
    assert relative(recorded, own) <= 1e-12


def _double(arguments: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.double() for name, value in arguments.items()}


def test_a_smaller_image_has_the_middle_of_the_positions(sd3: Case) -> None:
    small = Case(sd3.folder, resolution=96, channels=CHANNELS)
    z_t = sd3.reference.noised(sd3.reference.latent(small.images[0], 96), small.noise[741], 741)
    expected = sd3.reference.observe(z_t, 741, sd3.reference.condition(small.texts[0]))
    assert relative(small.observe(741)["prediction"], expected.prediction) <= TENSOR_TOLERANCE


SCORES: tuple[dict[str, Any], ...] = (
    {},
    {"map": "logits", "layers": "last_blocks"},
    {"map": "cosine", "layers": ["block.1", "block.2"], "lambda_": 10.0},
    {"map": "text_probs", "lambda_": 20.0},
    {"lambda_": 200.0},
    {"heads": "attributed", "tokens": "content"},
    {"heads": "attributed", "map": "logits"},
    {"heads": "attributed", "attribution": "elementwise"},
    {"pooling": "max_row", "layers": "last(3)"},
    {"pooling": "max_col", "tokens": "content"},
    {"heads": [1, 0], "pooling": "mean", "layers": "block"},
    {"method": "denoising"},
    {"method": "denoising", "denoising_error": "mse", "unconditional": False},
    {"method": "combined", "denoising_weight": 0.5, "map": "logits"},
)


@pytest.mark.parametrize("fields", SCORES, ids=str)
def test_scores(case: Case, fields: Mapping[str, Any]) -> None:
    """The row without a text is the empty text, as the pipeline's is where no negative prompt is given."""
    pairs = [(0, 0), (0, 1), (1, 0), (1, 1)]
    expected = np.array([case.recording.score(i, j, **fields) for i, j in pairs])
    # a combined score is a difference of numbers of this size
    size = np.abs(expected).max()
    assert np.abs(case.scores(pairs, **fields) - expected).max() <= SCORE_TOLERANCE * size


def test_maps_that_are_pooled_on_the_way_give_the_same_scores(sd35: Case) -> None:
    """A score of rows that are pooled by the kernel, and the same from maps that are formed for their head weights."""
    image, text = sd35.images[0], sd35.texts[0]
    for kind in MAPS:
        fields = {"map": kind, "lambda_": 5.0}
        noise = torch.stack(list(sd35.noise.values())).numpy()
        pooled = sd35.scores([(0, 0)], **fields)[0]
        explained = _core.explain(sd35.core, image, text, kind, "all", sd35.config(**fields), noise, None)
        assert explained["scores"].mean() == pytest.approx(pooled, rel=1e-6)


ATTRIBUTED = ("full", "integrated")


@pytest.mark.parametrize("attribution", ATTRIBUTED)
@pytest.mark.parametrize("map", ["probs", "logits"])
def test_the_network_goes_on_with_an_altered_map(training: TrainingCase, attribution: str, map: str) -> None:
    """Weights of heads by backpropagation through what follows a map, which is a leaf or scaled."""
    from tests.parity.attribution import head_weights

    model, reference = training.model, training.reference
    fields = {"heads": "attributed", "attribution": attribution, "attribution_steps": 3, "map": map}
    image, text, t = training.raw[0][0][0], training.raw[0][1][0], 261
    noise = torch.randn(CHANNELS, 16, 16, generator=torch.Generator().manual_seed(4))
    z_t = reference.noised(reference.latent(image, 128), noise, t)
    config = ScoreConfig.from_dict({**PLAIN, **fields, "timesteps": [t], "resolution": 128})
    found = training.scorer.head_weights(image, text, config, noise[None].numpy())
    expected = head_weights(model, z_t, t, text, {}, {**PLAIN, **fields})
    for layer, weights in expected.items():
        np.testing.assert_allclose(found[layer][0], weights.detach().numpy(), rtol=1e-4, atol=1e-5)


def pipeline(folder: Path) -> Any:
    """diffusers' pipeline of a folder, without T5."""
    made = StableDiffusion3Pipeline.from_pretrained(
        folder, torch_dtype=torch.float32, text_encoder_3=None, tokenizer_3=None
    )
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.parametrize("negative", [None, NEGATIVE])
def test_images(case: Case, negative: str | None) -> None:
    noise = latents(2, channels=CHANNELS)
    given = {} if negative is None else {"negative_prompt": negative}
    expected = theirs(pipeline(case.folder), noise, num_images_per_prompt=2, **given)
    check(ours(Scorer(case.folder, device="cpu", dtype="float32"), noise, **given), expected)


def test_images_of_another_ratio_without_guidance(sd3: Case) -> None:
    noise = latents(1, 12, 20, channels=CHANNELS)
    expected = theirs(pipeline(sd3.folder), noise, guidance_scale=1.0, num_inference_steps=4)
    scorer = Scorer(sd3.folder, device="cpu", dtype="float32")
    check(ours(scorer, noise, guidance_scale=1.0, steps=4), expected)


def test_the_pipelines_own_guidance_and_steps(sd3: Case) -> None:
    noise = latents(1, channels=CHANNELS)
    scorer = Scorer(sd3.folder, device="cpu", dtype="float32")
    found = scorer.generate(PROMPT, latents=noise)
    expected = pipeline(sd3.folder)(PROMPT, latents=noise, height=128, width=128).images[0]
    check(np.asarray(found)[None], np.asarray(expected)[None])


TRAINED: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    ({"loss": "triplet", "rank": 4}, {"map": "logits"}),
    ({"loss": "triplet", "recompute": True}, {"method": "denoising"}),
    ({"loss": "triplet", "recompute": True}, {"map": "probs"}),
    ({"loss": "cross_entropy", "temperature": 0.5}, {"map": "cosine", "layers": "last(2)"}),
    ({"loss": "cross_entropy", "temperature": 0.5}, {"map": "text_probs", "tokens": "content"}),
    ({"loss": "diffusion"}, {}),
    ({"loss": "triplet", "modalities": "both"}, {"map": "probs"}),
    ({"loss": "triplet", "modalities": "both", "recompute": True}, {"map": "logits", "layers": "last(2)"}),
)
PLAIN = {"method": "attention", "layers": "all", "pooling": "lse", "lambda_": 1.0, "tokens": "all"}


@pytest.fixture(scope="module", params=["sd3", "sd35"])
def training(request: pytest.FixtureRequest, checkpoint: Callable[..., Path]) -> TrainingCase:
    return TrainingCase(checkpoint(request.param, seed=1))


@pytest.mark.parametrize(("options", "fields"), TRAINED, ids=str)
def test_gradients_of_deltas(training: TrainingCase, options: dict[str, Any], fields: dict[str, Any]) -> None:
    """Of the text's keys and values in every block, or of the image's too."""
    trainer = training.trainer(options, fields)
    arrays = trainer.deltas().arrays()
    paths = {name.rpartition(".")[0] for name in arrays}
    names = [f"add_{kind}_proj" for kind in "kv"]
    if "modalities" in options:
        names += [f"to_{kind}" for kind in "kv"]
    assert paths == {f"transformer_blocks.{i}.attn.{name}" for i in range(4) for name in names}
    found = trainer.gradients([0, 1])
    expected = training.expected(found, arrays, [0, 1], options, fields)
    assert found["loss"] == pytest.approx(expected.loss, rel=LOSS_TOLERANCE)
    assert_close(found["gradients"], expected.gradients)


def random_pairs(network: torch.nn.Module, seed: int = 0) -> lora_files.Pairs:
    """A pair for every projection of the joint attention."""
    return lora_files.random_pairs(network, seed, RANKS, ".attn.")


def test_lora_in(sd35: Case, tmp_path: Path) -> None:
    """A file of diffusers' changes our maps and diffusers' alike, its alphas included."""
    pairs = random_pairs(sd35.reference.unet)
    assert len(pairs) == 4 * len(RANKS) - 1  # the last block has no output for the text
    pipe = pipeline(sd35.folder)
    tensors = {f"transformer.{name}.lora_A.weight": down for name, (down, _) in pairs.items()}
    tensors |= {f"transformer.{name}.lora_B.weight": up.contiguous() for name, (_, up) in pairs.items()}
    path = tmp_path / "pytorch_lora_weights.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    pipe.load_lora_weights(tmp_path, weight_name=path.name)
    (adapter,) = pipe.transformer.peft_config  # and as diffusers writes it itself
    layers = get_peft_model_state_dict(pipe.transformer, adapter_name=adapter)
    StableDiffusion3Pipeline.save_lora_weights(tmp_path / "again", layers)
    reference = fused(pipe, sd35.folder)
    for file in (path, tmp_path / "again" / path.name):
        adapted = case_of(sd35.folder)
        adapted.__dict__["core"] = sd35.core.with_deltas(_core.Deltas.load(str(file), sd35.core, True), None)
        assert difference(sd35, reference) > 0.05
        assert difference(adapted, reference) < 1e-5


def test_lora_out(sd3: Case, tmp_path: Path) -> None:
    """What we export, diffusers' pipeline loads, and shows the same attention with."""
    pairs = random_pairs(sd3.reference.unet, seed=1)
    arrays = {f"{m}.{n}": h.numpy() for m, p in pairs.items() for n, h in zip(("down", "up"), p, strict=True)}
    deltas = _core.Deltas.from_arrays(arrays, {}, sd3.core, True)
    path = tmp_path / "pytorch_lora_weights.safetensors"
    assert deltas.export_lora(str(path), "diffusers", None) == 0
    pipe = pipeline(sd3.folder)
    pipe.load_lora_weights(tmp_path, weight_name=path.name)
    reference = fused(pipe, sd3.folder)
    adapted = case_of(sd3.folder)
    adapted.__dict__["core"] = sd3.core.with_deltas(deltas, None)
    assert difference(sd3, reference) > 0.05
    assert difference(adapted, reference) < 1e-5


def difference(case: Case, reference: JointReference) -> float:
    """The largest relative difference of any map of probabilities or of a prediction."""
    z = reference.latent(case.images[0], case.resolution)
    worst = 0.0
    for t, noise in case.noise.items():
        theirs = reference.observe(reference.noised(z, noise, t), t, reference.condition(case.texts[0]))
        ours = case.observe(t)
        differences = [relative(ours["maps"][layer], theirs.map(layer, "probs")) for layer in LAYERS]
        worst = max(worst, *differences, relative(ours["prediction"], theirs.prediction))
    return worst


def fused(pipe: Any, folder: Path) -> JointReference:
    """The reference with the weights of a pipeline whose LoRA is added to them."""
    reference = JointReference(folder)
    lora_files.fuse(pipe, pipe.transformer, reference.unet)
    return reference


def test_lora_of_other_modules_is_refused_by_name(sd35: Case, tmp_path: Path) -> None:
    for name in ("transformer_blocks.0.attn2.to_k", "transformer_blocks.0.ff.net.0.proj"):
        save_file({f"transformer.{name}.lora_A.weight": torch.ones(2, 56)}, tmp_path / "lora.safetensors")
        with pytest.raises(DeltasError, match=name):
            _core.Deltas.load(str(tmp_path / "lora.safetensors"), sd35.core, True)


def test_parts_that_do_not_fit_are_named(sd3: Case, tmp_path: Path) -> None:
    folder = shutil.copytree(sd3.folder, tmp_path / "model")
    path = folder / "transformer" / "config.json"
    config = json.loads(path.read_text("utf-8"))
    for field, value, what in (
        ("joint_attention_dim", 64, "text vectors of width 64"),
        ("pooled_projection_dim", 65, "pooled text vectors of width 65"),
        ("caption_projection_dim", 64, "caption_projection_dim is 64; expected 56"),
        ("qk_norm", "layer_norm", 'qk_norm is "layer_norm"'),
        ("in_channels", 4, "takes 4 channels"),
        ("pos_embed_max_size", 7, "pos_embed_max_size is 7"),
        ("pos_embed_max_size", None, "pos_embed_max_size is null"),
        ("patch_size", 3, "patch_size is 3"),
        ("pos_embed_max_size", 14, r"pos_embed.pos_embed has the shape \[1, 169, 56\]"),
        ("num_layers", 3, "transformer_blocks.2.norm1_context.linear.weight has the shape"),
        ("num_layers", 5, "transformer_blocks.3.norm1_context.linear.weight has the shape"),
    ):
        path.write_text(json.dumps({**config, field: value}))
        with pytest.raises(CheckpointError, match=what):
            _core.Scorer.load(str(folder), None, "cpu", "float32", False)


def test_weights_that_are_left_over_are_named(sd35: Case, tmp_path: Path) -> None:
    folder = shutil.copytree(sd35.folder, tmp_path / "model")
    path = folder / "transformer" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "qk_norm": None}))
    with pytest.raises(CheckpointError, match=r"20 weight\(s\) belong to no layer .*norm_added_k"):
        _core.Scorer.load(str(folder), None, "cpu", "float32")


def test_sizes_that_do_not_fit_are_named(sd3: Case) -> None:
    scorer = Scorer(sd3.folder, device="cpu")
    with pytest.raises(ConfigError, match="resolution is 120; this model needs a multiple of 16"):
        scorer.with_config(resolution=120)
    with pytest.raises(ConfigError, match="resolution is 224; this model takes at most 208"):
        scorer.with_config(resolution=224)
    with pytest.raises(ConfigError, match="height is 120; this model needs a multiple of 16"):
        scorer.generate("a dog", height=120)
    with pytest.raises(ConfigError, match="width of latents, in pixels, is 72"):
        scorer.generate("a dog", latents=latents(1, 16, 9, channels=CHANNELS))


def test_bfloat16(sd35: Case) -> None:
    half = Scorer(sd35.folder, device="cpu", dtype="bfloat16")
    single = Scorer(sd35.folder, device="cpu", dtype="float32")
    for kind in ("cosine", "probs"):
        config = ScoreConfig(method="attention", map=kind, layers="last(1)", steps=2)
        scores = [s.with_config(config).matrix(sd35.images, list(sd35.texts)) for s in (half, single)]
        np.testing.assert_allclose(*scores, atol=0.02)


def test_half_precision_files(sd3: Case, checkpoint: Callable[..., Path]) -> None:
    """A single set of `fp16` files is found without naming the variant."""
    folder = checkpoint("sd3", dtype="float16", variant="fp16")
    scores = [
        Scorer(each, device="cpu", dtype="float32").matrix(sd3.images[:1], list(sd3.texts))
        for each in (folder, sd3.folder)
    ]
    np.testing.assert_allclose(*scores, atol=0.05)


def test_every_use_of_it(sd35: Case) -> None:
    """A scorer of it does what any scorer does."""
    scorer = Scorer(sd35.folder, device="cpu").with_config(ScoreConfig(steps=2))
    image, text = sd35.images[0], sd35.texts[0]
    assert np.isfinite(scorer.score(image, text))
    assert len(scorer.rank(image, list(sd35.texts))) == 2
    for fields in ({}, {"tokens": "content"}, {"map": "probs"}, {"map": "text_probs"}):
        attention = scorer.with_config(ScoreConfig(method="attention", steps=2, **fields))
        explained = attention.explain(image, text)
        assert sum(c.sum() for c in explained.contributions.values()) == pytest.approx(
            explained.score, rel=1e-6
        )
        assert explained.map_of("cat").shape == image.shape[:2]
    kinds = [(token.encoder, token.kind) for token in explained.tokens]
    assert kinds[0] == ("clip", "bos") and kinds[-2:] == [("clip", "padding"), ("t5", "padding")]
    assert explained.tokens[-1].count == 256
    weights = scorer.with_config(ScoreConfig(method="attention", layers="last(2)", steps=2))
    assert list(weights.head_weights(image, text)) == ["block.2", "block.3"]
    with pytest.raises(ConfigError, match=r"layers names .*this model has block\.0"):
        scorer.with_config(ScoreConfig(layers=["mid.0"]))
    with pytest.raises(ConfigError, match='layers is "mid"; this model\'s groups of layers are block'):
        scorer.with_config(ScoreConfig(layers="mid"))
