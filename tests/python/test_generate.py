"""Pictures: what they depend on, and what is refused."""

from __future__ import annotations

import inspect
import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from tests.fixtures.make_checkpoint import write_checkpoint
from tests.python.processes import ROOT
from tests.python.run_python import run_python
from tests.python.test_cli import run
from typer.testing import CliRunner

from discffusion import Scorer, _native, generation
from discffusion.cli import build_app
from discffusion.errors import CheckpointError, ConfigError, DiscffusionError

FAST: dict[str, Any] = {"steps": 2, "guidance_scale": 2.0}


def pixels(image: PIL.Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def same(a: PIL.Image.Image, b: PIL.Image.Image) -> bool:
    """But for the last bit of a few pixels."""
    return bool(np.abs(pixels(a) - pixels(b)).max() <= 1)


def test_options_are_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for truncate, which is the configuration's; None is the default of what is one picture or a list."""
    rows = {row["name"]: row["default"] for row in _native.core().generate_options()}
    parameters = inspect.signature(Scorer.generate).parameters
    own = {"self", "prompt", "negative_prompt", "seed", "latents", "noise", "progress"}
    assert set(parameters) - own == set(rows) - {"truncate"}
    defaults = {name: parameters[name].default for name in rows if name in parameters}
    assert {**defaults, "num_images": 1, "truncate": "warn"} == rows
    monkeypatch.setenv("COLUMNS", "200")
    shown = CliRunner().invoke(build_app(), ["generate", "--help"]).stdout
    assert all("--" + name.replace("_", "-") in shown for name in rows)


def test_sizes_that_a_model_is_conditioned_on(scorer: Scorer) -> None:
    given = {"original_size": (64, 32), "crops_coords_top_left": np.array([0, 8]), "target_size": [64, 64]}
    checked = generation.check(scorer._model, {**given, "num_images": 1})
    assert {name: checked[name] for name in given} == {
        name: list(map(int, size)) for name, size in given.items()
    }
    with pytest.raises(ConfigError, match=r"target_size is \[64\]; expected height and width"):
        scorer.generate("a dog", target_size=[64], **FAST)
    shown = run("generate", "a circle", "-o", "x.png", "--original-size", "5")
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr.startswith("discffusion: --original-size is [5]; expected height and width")


def test_one_picture_or_a_list(scorer: Scorer) -> None:
    one = scorer.generate("a dog", **FAST)
    assert isinstance(one, PIL.Image.Image)
    assert (one.mode, one.size) == ("RGB", (128, 128))
    several = scorer.generate(["a dog", "a cat"], num_images=2, **FAST)
    assert [image.size for image in several] == [(128, 128)] * 4
    assert len(scorer.generate("a dog", num_images=1, **FAST)) == 1
    assert scorer.generate([], **FAST) == []


def test_a_picture_depends_on_its_own_seed_alone(scorer: Scorer) -> None:
    noisy = {**FAST, "eta": 1.0, "height": 64, "width": 64}
    many = scorer.generate(["a dog", "a cat"], num_images=3, seed=5, batch_size=4, **noisy)
    assert same(many[2], scorer.generate("a dog", seed=7, **noisy))
    assert same(many[3], scorer.generate("a cat", seed=5, **noisy))
    assert not same(many[0], many[1])
    by_seed = scorer.generate(["a dog", "a cat"], seed=[6, 5], **noisy)
    assert same(by_seed[0], many[1])
    assert same(by_seed[1], many[3])


@pytest.mark.parametrize(("height", "width"), [(64, 128), (72, 40), (8, 8), (None, 24)])
def test_sizes(scorer: Scorer, height: int | None, width: int) -> None:
    image = scorer.generate("a dog", height=height, width=width, **FAST)
    assert image.size == (width, height or 128)


def test_latents_decide_the_size(scorer: Scorer) -> None:
    latents = np.random.default_rng(0).normal(size=(4, 6, 10)).astype(np.float32)
    image = scorer.generate("a dog", latents=latents, **FAST)
    assert image.size == (80, 48)
    assert same(image, scorer.generate("a dog", latents=latents[None], seed=9, height=48, width=80, **FAST))


def test_encoding_and_decoding(scorer: Scorer, picture: np.ndarray) -> None:
    latents = scorer.encode_images([picture, picture[::-1]])
    decoded = scorer.decode_latents(latents)
    assert [image.size for image in decoded] == [(128, 128)] * 2
    assert same(decoded[0], scorer.decode_latents(latents[0])[0])


BAD: dict[str, dict[str, Any]] = {
    "height is 20": {"height": 20},
    "width is 0": {"width": 0},
    "width is -8": {"width": -8},
    "height is 1000000": {"height": 1_000_000},
    "steps is 0": {"steps": 0},
    "steps is 1001": {"steps": 1001},
    "steps is 2.5": {"steps": 2.5},
    "steps is True": {"steps": True},
    "eta is 1.5": {"eta": 1.5},
    "eta is nan": {"eta": float("nan")},
    "guidance_scale is -1": {"guidance_scale": -1},
    "guidance_scale is inf": {"guidance_scale": float("inf")},
    "guidance_rescale is 2": {"guidance_rescale": 2},
    "num_images is 0": {"num_images": 0},
    "batch_size is 0": {"batch_size": 0},
    "seed is -1": {"seed": -1},
    "seed is 1.5": {"seed": 1.5},
    "2 seeds and 1 prompts": {"seed": [1, 2]},
    "2 negative prompts and 1 prompts": {"negative_prompt": ["a", "b"]},
    "text 0 is int": {"negative_prompt": [3]},
    "latents holds NaN": {"latents": np.full((1, 4, 16, 16), np.nan, np.float32)},
    "latents has the dtype int64": {"latents": np.zeros((1, 4, 16, 16), np.int64)},
    r"latents has the shape \(16, 16\)": {"latents": np.zeros((16, 16), np.float32)},
    r"latents has the shape \[1, 3, 16, 16\]": {"latents": np.zeros((1, 3, 16, 16), np.float32)},
    r"latents has the shape \[1, 4, 16, 16\]": {"latents": np.zeros((1, 4, 16, 16), np.float32), "width": 64},
    "0 × 16 make no image": {"latents": np.zeros((1, 4, 0, 16), np.float32)},
    r"noise has the shape \[1, 1, 4, 16, 16\]": {"noise": np.zeros((1, 1, 4, 16, 16), np.float32)},
}


@pytest.mark.parametrize("message", BAD)
def test_what_is_refused(scorer: Scorer, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        scorer.generate("a dog", **{**FAST, **BAD[message]})


@pytest.mark.parametrize("prompt", [3, None, b"a dog", ["a dog", 3]])
def test_prompts_that_are_none(scorer: Scorer, prompt: Any) -> None:
    with pytest.raises(ConfigError, match="str"):
        scorer.generate(prompt, **FAST)


def test_latent_consistency_model(tmp_path: Path) -> None:
    scorer = Scorer(write_checkpoint(tmp_path / "lcm", "lcm"), device="cpu")
    seen: list[tuple[int, int]] = []
    scorer.generate("a dog", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for options, message in (
        ({"negative_prompt": "a cat"}, "no negative prompt"),
        ({"eta": 0.5}, "eta is 0.5"),
        ({"steps": 51}, "1 to 50"),
    ):
        with pytest.raises(ConfigError, match=message):
            scorer.generate("a dog", **options)


@pytest.fixture
def copied(tiny: Path, tmp_path: Path) -> Callable[..., Path]:
    """The tiny model with another scheduler, or without its decoder."""

    def copy(decoder: bool = True, **fields: Any) -> Path:
        to = tmp_path / "copied"
        shutil.copytree(tiny, to)
        file = to / "scheduler" / "scheduler_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))
        if not decoder:
            from safetensors.torch import load_file, save_file

            weights = to / "vae" / "diffusion_pytorch_model.safetensors"
            kept = {name: w for name, w in load_file(weights).items() if not name.startswith("decoder.up")}
            save_file(kept, weights)
        return to

    return copy


def test_scoring_needs_no_decoder(copied: Callable[..., Path], scorer: Scorer, picture: np.ndarray) -> None:
    """Nor does it count it."""
    without = Scorer(copied(decoder=False), device="cpu", steps=2)
    assert without.num_parameters == scorer.num_parameters
    assert without.score(picture, "a dog") == scorer.score(picture, "a dog")
    with pytest.raises(CheckpointError, match=r"decoder\.up_blocks\.0"):
        without.generate("a dog", **FAST)
    assert np.isfinite(without.score(picture, "a dog"))


def test_noise_alone_with_a_model_that_predicts_noise(copied: Callable[..., Path]) -> None:
    scorer = Scorer(copied(rescale_betas_zero_snr=True, timestep_spacing="trailing"), device="cpu")
    with pytest.raises(CheckpointError, match="rescale_betas_zero_snr"):
        scorer.generate("a dog", **FAST)


def test_ctrl_c(scorer: Scorer) -> None:
    """Within a second, and the scorer goes on."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    before = scorer.generate("a dog", **FAST)
    handler = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            scorer.generate("a dog", steps=1000, num_images=4)
        assert time.monotonic() - began < 1.3
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert same(scorer.generate("a dog", **FAST), before)


def test_an_exception_in_the_progress_callback(scorer: Scorer) -> None:
    def refuse(done: int, total: int) -> None:
        raise LookupError(f"{done} of {total}")

    with pytest.raises(LookupError, match="1 of 2"):
        scorer.generate("a dog", progress=refuse, **FAST)


MEMORY = """
from tests.python.refusing import refused
from discffusion import Scorer, _native, generation
from discffusion.cli import build_app
from discffusion.errors import OutOfMemoryError

scorer = Scorer(device="cpu")
scorer.generate("a red circle", steps=1)
with refused(100 << 20):
    try:
        scorer.generate("a red circle", steps=1, height=4096, width=4096)
    except OutOfMemoryError:
        print("told")
print(scorer.generate("a red circle", steps=1).size)
"""


def test_too_little_memory(refusing: dict[str, str]) -> None:
    done = run_python(MEMORY, ROOT, **refusing)
    assert (done.returncode, done.stdout) == (0, "told\n(32, 32)\n"), done.stderr


def test_closed(tiny: Path) -> None:
    with Scorer(tiny, device="cpu") as scorer:
        pass
    with pytest.raises(DiscffusionError, match="closed"):
        scorer.generate("a dog", **FAST)


def test_a_text_that_is_too_long(tiny: Path) -> None:
    with Scorer(tiny, device="cpu", truncate="error") as scorer, pytest.raises(ConfigError, match="tokens"):
        scorer.generate("word " * 100, **FAST)
    with Scorer(tiny, device="cpu", truncate="warn") as scorer, pytest.warns(UserWarning, match="cut"):
        scorer.generate("word " * 100, **FAST)


def test_command(tiny: Path, scorer: Scorer, tmp_path: Path) -> None:
    output = tmp_path / "picture.png"
    model = [
        "--model",
        str(tiny),
        "--device",
        "cpu",
        "--steps",
        "2",
        "--guidance-scale",
        "2",
        "--width",
        "64",
    ]
    result = run("generate", "a dog", "a cat", *model, "--seed", "3", "-o", str(output), "--json")
    assert (result.returncode, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert found["options"]["height"] == 128
    assert found["options"]["timesteps"] == [501, 1]
    files = [row["file"] for row in found["images"]]
    assert files == [str(tmp_path / "picture-0.png"), str(tmp_path / "picture-1.png")]
    with PIL.Image.open(files[1]) as image:
        assert same(image, scorer.generate("a cat", width=64, seed=3, **FAST))
    for arguments, status in ((["-o", "x.nothing"], 2), (["--width", "20"], 2), (["--eta", "2"], 2)):
        wrong = run("generate", "a dog", *model[:-2], "-o", str(output), *arguments)
        assert wrong.returncode == status, wrong.stderr
        assert not output.exists()
