"""No wrong number in silence: what is not finite is an error, and what another model would have computed is refused."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

import discffusion
from discffusion import CheckpointError, ConfigError, NumericalError, Scorer
from discffusion.cli import build_app

POCKET = Path(discffusion.__file__).parent / "pocket" / "model"
IMAGE = Image.radial_gradient("L").convert("RGB").resize((64, 64))
SCENE = Path(__file__).parents[2] / "examples" / "scene.png"
TEXTS = ["a red circle", "a blue square"]
LAYER = "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"

Copy = Callable[..., Path]


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """The pocket model with other fields in a part's configuration; None takes a field away."""

    def make(part: str = "unet", null: tuple[str, ...] = (), **fields: Any) -> Path:
        folder = shutil.copytree(POCKET, tmp_path / "model")
        path = next((folder / part).glob("*config.json"))
        config = {**json.loads(path.read_text("utf-8")), **fields}
        config = {name: value for name, value in config.items() if value is not None} | dict.fromkeys(null)
        path.write_text(json.dumps(config), encoding="utf-8")
        return folder

    return make


def weights_file(folder: Path, part: str) -> Path:
    return next((folder / part).glob("*.safetensors"))


def spoil(folder: Path, part: str, name: str, value: float) -> None:
    path = weights_file(folder, part)
    tensors = load_file(path)
    tensors[name] = np.full_like(tensors[name], value)
    save_file(tensors, path)


@pytest.fixture
def spoilt(copy: Copy) -> Iterator[Scorer]:
    folder = copy()
    spoil(folder, "unet", LAYER, float("nan"))
    with Scorer(folder, config="attention", noise_levels=[0.5]) as scorer:
        yield scorer


WAYS: dict[str, Callable[[Scorer], Any]] = {
    "score": lambda s: s.score(IMAGE, TEXTS[0]),
    "matrix": lambda s: s.matrix([IMAGE], TEXTS),
    "rank": lambda s: s.rank(IMAGE, TEXTS),
    "score_pairs": lambda s: s.score_pairs([IMAGE], TEXTS, [(0, 1)]),
    "denoising": lambda s: s.with_config(method="denoising").score(IMAGE, TEXTS[0]),
    "max_row": lambda s: s.with_config(pooling="max_row").score(IMAGE, TEXTS[0]),
    "staged": lambda s: s.with_config(noise_levels=[0.5, 0.4]).rank(IMAGE, TEXTS, stages=(1, 2)),
    "attributed": lambda s: s.with_config(heads="attributed", attribution="full").score(IMAGE, TEXTS[0]),
    "explain": lambda s: s.explain(IMAGE, TEXTS[0]),
    "observe": lambda s: s.observe(IMAGE, TEXTS[0]),
    "head_weights": lambda s: s.head_weights(IMAGE, TEXTS[0]),
    "head_scores": lambda s: s.head_scores(IMAGE, TEXTS, [(0, 1)]),
    "blind": lambda s: s.blind(TEXTS),
    "prior": lambda s: s.with_config(prior="null").score(IMAGE, TEXTS[0]),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_not_a_number_is_an_error_that_names_the_layer(spoilt: Scorer, way: str) -> None:
    with pytest.raises(NumericalError, match=r"layer up\.1\.0.*not finite in float32.*weights"):
        WAYS[way](spoilt)


@pytest.mark.parametrize(
    ("part", "layer", "value", "names"),
    [
        ("vae", "encoder.conv_in.bias", np.inf, "VAE's encoder"),
        ("text_encoder", "text_model.final_layer_norm.bias", np.nan, "text encoder"),
        ("unet", "conv_out.bias", np.nan, "last layers"),
    ],
)
def test_every_part_is_named(copy: Copy, part: str, layer: str, value: float, names: str) -> None:
    folder = copy()
    spoil(folder, part, layer, value)
    with (
        Scorer(folder, method="denoising", noise_levels=[0.5]) as scorer,
        pytest.raises(NumericalError, match=names),
    ):
        scorer.score(IMAGE, TEXTS[0])


def test_latents_and_pictures(copy: Copy) -> None:
    folder = copy()
    spoil(folder, "vae", "encoder.conv_in.bias", np.nan)
    spoil(folder, "vae", "decoder.conv_in.bias", np.nan)
    with Scorer(folder) as scorer:
        with pytest.raises(NumericalError, match="VAE's encoder"):
            scorer.encode_images([IMAGE])
        with pytest.raises(NumericalError, match="VAE's decoder"):
            scorer.generate("a red circle", steps=2)
        with pytest.raises(NumericalError, match="VAE's decoder"):
            scorer.decode_latents(np.zeros((1, 4, 8, 8), np.float32))


def test_half_precision_is_told_what_to_do(copy: Copy) -> None:
    folder = copy()
    spoil(folder, "unet", LAYER, float("nan"))
    with (
        Scorer(folder, dtype="bfloat16") as scorer,
        pytest.raises(NumericalError, match='bfloat16.*dtype="float32"'),
    ):
        scorer.observe(IMAGE, TEXTS[0])


def test_noise_that_float32_does_not_hold() -> None:
    with (
        Scorer(config="attention", noise_levels=[0.5]) as scorer,
        pytest.raises(NumericalError, match="layer .* at timestep 500"),
    ):
        scorer.score(IMAGE, TEXTS[0], noise=np.full((1, 4, 8, 8), 1e30, np.float32))


def test_the_shell_prints_no_number_that_is_none(copy: Copy, tmp_path: Path) -> None:
    folder = copy()
    spoil(folder, "unet", LAYER, float("nan"))
    IMAGE.save(tmp_path / "a.png")
    options = ["--model", str(folder), "--noise-levels", "0.5", "--json"]
    image = str(tmp_path / "a.png")
    for command in (
        ["score", image, TEXTS[0]],
        ["rank", image, "--text", TEXTS[0]],
        ["explain", image, TEXTS[0]],
    ):
        done = CliRunner().invoke(build_app(), [*command, *options])
        assert done.exit_code == 1
        assert "NaN" not in done.stdout
        assert "layer" in done.stderr


def test_upcast_attention_costs_and_changes_nothing(copy: Copy) -> None:
    """libtorch's kernels form scores in float32 whatever the type: the bits are those without the flag."""
    folder = copy(upcast_attention=True)
    with Scorer(dtype="bfloat16") as plain, Scorer(folder, dtype="bfloat16") as upcast:
        one, other = (scorer.observe(IMAGE, TEXTS[0], map="logits") for scorer in (plain, upcast))
        assert one.prediction is not None
        np.testing.assert_array_equal(other.prediction, one.prediction)
        for site, found in one.maps.items():
            np.testing.assert_array_equal(other.maps[site], found)


# Each is honoured by diffusers, transformers or the pipeline, and would change the numbers.
REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("unet", {"downsample_padding": 2}),
    ("unet", {"out_channels": 8}),
    ("vae", {"in_channels": 1}),
    ("vae", {"latents_mean": [0.0] * 4}),
    ("vae", {"latents_std": [1.0] * 4}),
    ("text_encoder", {"use_attention_mask": True}),
    ("scheduler", {"use_flow_sigmas": True}),
    ("scheduler", {"timestep_type": "continuous"}),
    ("scheduler", {"prediction_type": "sample"}),
    ("scheduler", {"beta_schedule": "sigmoid"}),
]


@pytest.mark.parametrize(("part", "fields"), REFUSED, ids=str)
def test_fields_that_are_not_computed_are_refused(copy: Copy, part: str, fields: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=next(iter(fields))):
        Scorer(copy(part, **fields))


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ("unet", "mid_block_type"),
        ("unet", "flip_sin_to_cos"),
        ("vae", "use_quant_conv"),
        ("vae", "mid_block_add_attention"),
        ("scheduler", "set_alpha_to_one"),
    ],
)
def test_null_is_not_the_default_where_diffusers_takes_it_for_no(copy: Copy, part: str, field: str) -> None:
    with pytest.raises(CheckpointError, match=f"{field} is null"):
        Scorer(copy(part, null=(field,)))


OTHER_LAWS: list[dict[str, Any]] = [
    {"_class_name": "FlowMatchHeunDiscreteScheduler"},
    {
        "_class_name": "EDMDPMSolverMultistepScheduler",
        "sigma_min": 0.002,
        "sigma_max": 80.0,
        "sigma_data": 0.5,
    },
    {"_class_name": "EDMEulerScheduler"},
    {"_class_name": "CMStochasticIterativeScheduler", "sigma_min": 0.002},
    {"_class_name": "ScoreSdeVeScheduler"},
    {"_class_name": "CogVideoXDDIMScheduler", "beta_schedule": "scaled_linear"},
    {"_class_name": "SomebodysScheduler", "num_train_timesteps": 1000},
    {"_class_name": "DPMSolverMultistepScheduler", "beta_schedule": "linear", "use_flow_sigmas": True},
]


@pytest.mark.parametrize("config", OTHER_LAWS, ids=lambda config: config["_class_name"])
def test_another_law_of_noise_is_refused(copy: Copy, config: dict[str, Any]) -> None:
    folder = copy()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(CheckpointError, match=f"{config['_class_name']}|use_flow_sigmas"):
        Scorer(folder)


def test_the_index_names_the_scheduler_where_its_file_does_not(copy: Copy) -> None:
    folder = copy()
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    index["scheduler"] = ["diffusers", "FlowMatchEulerDiscreteScheduler"]
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    (folder / "scheduler" / "scheduler_config.json").write_text('{"num_train_timesteps": 1000}', "utf-8")
    with Scorer(folder) as scorer:
        assert scorer.info()["prediction_type"] == "flow_prediction"


FAMILY = [
    "DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler", "UniPCMultistepScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler",
    "LMSDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
    "LCMScheduler", "TCDScheduler",
]  # fmt: skip


@pytest.mark.parametrize("name", FAMILY)
def test_absent_variances_are_those_of_the_class(copy: Copy, name: str) -> None:
    diffusers = pytest.importorskip("diffusers")
    folder = copy()
    config = {"_class_name": name}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config), encoding="utf-8")
    theirs = getattr(diffusers, name).from_config(config).alphas_cumprod.numpy()
    with Scorer(folder) as scorer:
        np.testing.assert_array_equal(scorer._model.alphas_cumprod(), theirs)


def test_a_file_that_says_nothing_draws_a_warning(copy: Copy, caplog: pytest.LogCaptureFixture) -> None:
    folder = copy()
    (folder / "scheduler" / "scheduler_config.json").write_text("{}", encoding="utf-8")
    (folder / "model_index.json").write_text("{}", encoding="utf-8")
    with caplog.at_level(logging.WARNING, "discffusion"):
        Scorer(folder).close()
    assert "beta_schedule" in caplog.text


def test_the_pipelines_own_values_draw_warnings(copy: Copy, caplog: pytest.LogCaptureFixture) -> None:
    folder = copy("scheduler", clip_sample=True, steps_offset=0, timestep_spacing="leading")
    with caplog.at_level(logging.WARNING, "discffusion"):
        Scorer(folder).close()
    assert "clip_sample is true; it is taken for false" in caplog.text
    assert "steps_offset is 0; images are generated with 1" in caplog.text


def test_prediction_type_overrides(copy: Copy, caplog: pytest.LogCaptureFixture) -> None:
    """The pocket model predicts v; a file that says nothing means ε."""
    folder = copy("scheduler", prediction_type=None)
    options: dict[str, Any] = {"method": "denoising", "noise_levels": [0.6, 0.3]}
    with Scorer(**options) as told:
        expected = told.matrix([SCENE], TEXTS)
    with caplog.at_level(logging.WARNING, "discffusion"), Scorer(folder, **options) as silent:
        assert silent.info()["prediction_type"] == "epsilon"
        assert np.abs(silent.matrix([SCENE], TEXTS) - expected).max() > 1e-3
    assert 'prediction_type="v_prediction"' in caplog.text
    caplog.clear()
    with (
        caplog.at_level(logging.WARNING, "discffusion"),
        Scorer(folder, prediction_type="v_prediction", **options) as scorer,
    ):
        np.testing.assert_array_equal(scorer.matrix([SCENE], TEXTS), expected)
        assert scorer.info()["prediction_type"] == scorer.describe()["prediction_type"] == "v_prediction"
        assert scorer.with_config(seed=1).info()["prediction_type"] == "v_prediction"
    assert "prediction_type" not in caplog.text
    with pytest.raises(ConfigError, match="prediction_type is 'flow'|prediction_type is \"flow\""):
        Scorer(folder, prediction_type="flow")


@pytest.mark.parametrize(
    "fields",
    [
        {"layers": ["up.9.9"]},
        {"layers": "last(99)"},
        {"heads": [99]},
        {"timesteps": [1000]},
        {"steps": 1001, "noise_range": None},
        {"resolution": 67},
    ],
    ids=str,
)
def test_a_configuration_is_checked_against_the_model_at_once(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(fields))):
        Scorer(config="attention", **fields)
    with Scorer(config="attention") as scorer, pytest.raises(ConfigError, match=next(iter(fields))):
        scorer.with_config(**fields)
