"""The accounting against published counts, and against torch's own counter on diffusers' modules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.fixtures.make_checkpoint import write_checkpoint
from tests.fixtures.published import configs

from discffusion import hub
from discffusion.bench.accounting import Accounting, latent_multiple
from discffusion.bench.flops import text_encoder, unet, vae_encoder
from discffusion.errors import CheckpointError

GIGA = 1e9


@pytest.fixture(scope="module")
def sd21() -> Accounting:
    """Stable Diffusion 2.1-base from its published configuration, at 512 pixels."""
    parts = configs("sd21", "full")
    return Accounting(
        unet(parts["unet"]), vae_encoder(parts["vae"], 512), [text_encoder(parts["text_encoder"])]
    )


def test_sd21_at_64(sd21: Accounting) -> None:
    assert sd21.unet.total / GIGA == pytest.approx(804.3, abs=0.05)
    assert sd21.vae.total / GIGA == pytest.approx(1116.7, abs=0.05)
    assert sd21.one_text / GIGA == pytest.approx(45.1, abs=0.05)


def test_parameters_are_the_published_ones(sd21: Accounting) -> None:
    """865.9 M, 34.2 M and 340.4 M; the first and the last to the number."""
    assert sd21.unet.parameters == 865_910_724
    assert sd21.vae.parameters / 1e6 == pytest.approx(34.2, abs=0.05)
    assert sd21.text[0].parameters == 340_387_840


def test_sd21_by_kind_and_block(sd21: Accounting) -> None:
    kinds = {kind: flops / GIGA for kind, flops in sd21.unet.by_kind().items()}
    expected = {"conv": 418.4, "linear": 255.9, "attention": 126.1, "text": 3.9, "time": 0.06}
    assert kinds == pytest.approx(expected, abs=0.06)
    blocks: dict[str, float] = {}
    for op in sd21.unet.ops:
        blocks[op.block] = blocks.get(op.block, 0) + op.flops / GIGA
    assert blocks["down.0"] == pytest.approx(109.60, abs=0.01)
    assert blocks["mid"] == pytest.approx(12.20, abs=0.01)
    assert blocks["up.1"] == pytest.approx(151.85, abs=0.01)
    assert blocks["up.3"] == pytest.approx(197.64, abs=0.01)


def test_what_can_be_saved(sd21: Accounting) -> None:
    net = sd21.unet
    assert len(net.softmax) == 16
    assert [name / GIGA for name in (net.prefix, net.tail, net.text)] == pytest.approx(
        [41.7, 12.0, 3.94], abs=0.05
    )
    share = sum(op.flops for op in net.ops[: net.softmax["mid.0"]]) / net.total
    assert share == pytest.approx(0.32, abs=0.005)
    assert net.last_values == 2 * 77 * 1024 * 320


@pytest.mark.parametrize(
    ("images", "texts", "steps", "attention", "combined"),
    [
        (1, 1, 10, 3.02, 1.63),
        (1, 1, 50, 3.36, 1.72),
        (1, 10, 10, 3.57, 3.20),
        (1, 10, 50, 3.62, 3.24),
        (2, 1, 10, 3.03, 1.63),
        (2, 2, 10, 3.31, 2.24),
        (2, 2, 50, 3.50, 2.33),
    ],
)
def test_released_code_to_what_is_needed(
    sd21: Accounting, images: int, texts: int, steps: int, attention: float, combined: float
) -> None:
    released = sd21.released(images, texts, steps)
    assert released / sd21.needed(images, texts, steps) == pytest.approx(attention, abs=0.006)
    assert released / sd21.needed(images, texts, steps, "combined") == pytest.approx(combined, abs=0.006)


def test_caching_alone(sd21: Accounting) -> None:
    assert sd21.released(1, 10, 50) / sd21.cached(1, 10, 50) == pytest.approx(3.38, abs=0.006)
    one_more = sd21.cached(1, 1, 10, "combined") - sd21.cached(1, 1, 10)
    assert one_more == sd21.one_text + 10 * sd21.unet.total


def test_other_sizes() -> None:
    """At 256 pixels 181 GFLOP; an evaluation of Stable Diffusion 1.5 is half of 1.607 TFLOP."""
    assert unet(configs("sd21", "full")["unet"], 32).total / GIGA == pytest.approx(181, abs=0.5)
    assert 2 * unet(configs("sd15", "full")["unet"]).total / GIGA == pytest.approx(1607, abs=0.5)


def test_xl() -> None:
    """2,567 M parameters and 70 layers; both text encoders, 123 M and 695 M; linear layers do most of the work."""
    parts = configs("sdxl", "full")
    net = unet(parts["unet"])
    assert net.parameters == 2_567_463_684
    assert len(net.softmax) == 70
    assert net.text == sum(2 * 2 * 77 * 2048 * width for width in [640] * 10 + [1280] * 60)
    assert net.by_kind()["linear"] > 0.6 * net.total
    encoders = [text_encoder(parts[part]) for part in ("text_encoder", "text_encoder_2")]
    assert [encoder.parameters for encoder in encoders] == [123_060_480, 694_659_840]


@pytest.mark.parametrize("kind", ["sd15", "sd21", "pocket"])
def test_against_torchs_counter(kind: str) -> None:
    """Convolutions, linear layers and attention products are what torch counts too; it runs the real modules."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import CLIPTextConfig, CLIPTextModel

    parts = _pocket() if kind == "pocket" else configs(kind, "tiny")
    net, images, texts = parts["unet"], parts["vae"], parts["text_encoder"]
    side = 16
    with torch.device("meta"), torch.no_grad():
        counter = FlopCounterMode(display=False)
        noised = torch.empty(1, net["in_channels"], side, side)
        words = torch.empty(1, 77, net["cross_attention_dim"])
        model = UNet2DConditionModel.from_config(net)
        with counter:
            model(noised, torch.zeros(1), words)
        assert unet(net, side).total == counter.get_total_flops()
        assert unet(net, side).parameters == sum(p.numel() for p in model.parameters())

        model = AutoencoderKL.from_config(images)
        with counter:
            model.quant_conv(model.encoder(torch.empty(1, 3, 64, 64)))
        assert vae_encoder(images, 64).total == counter.get_total_flops()

        model = CLIPTextModel(CLIPTextConfig(**texts))
        with counter:
            model(torch.zeros(1, 77, dtype=torch.int64))
        assert text_encoder(texts).total == counter.get_total_flops()
        assert text_encoder(texts).parameters == sum(p.numel() for p in model.parameters())


def test_from_a_folder(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", "sd21")
    own = Accounting.of(folder, 128)
    assert own.unet.total == unet(configs("sd21", "tiny")["unet"], 16).total
    assert own.vae.total == vae_encoder(configs("sd21", "tiny")["vae"], 128).total
    assert latent_multiple(folder) == 8
    file = folder / "unet" / "config.json"
    file.write_text(json.dumps({"sample_size": 8}))
    with pytest.raises(CheckpointError, match="Stable Diffusion"):
        Accounting.of(folder)
    file.write_text("{")
    with pytest.raises(CheckpointError, match=r"unet/config\.json"):
        Accounting.of(folder)


def _pocket() -> dict[str, Any]:
    folder = Path(hub.resolve(None)[0])
    return {
        part: json.loads((folder / part / "config.json").read_text())
        for part in ("unet", "vae", "text_encoder")
    }
