"""The method in plain PyTorch on the objects of diffusers and transformers: what the core is compared with.

Written from the paper's equations and for reading, not for speed: one image, one text, one timestep at a
time. Models run in float32, pooling in float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, LatentConsistencyModelPipeline, UNet2DConditionModel
from PIL import Image
from tests.parity.pooling import attention_score
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

Noise = dict[int, Tensor]


ERRORS = ("norm", "mse")


class RecordingProcessor:
    """An attention processor of one layer that keeps the queries and keys it saw."""

    def __init__(self) -> None:
        self.q = self.k = torch.empty(0)

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
        def heads(x: Tensor) -> Tensor:
            return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)  # [batch, H, tokens, d]

        self.q, self.k = heads(attn.to_q(hidden_states)), heads(attn.to_k(encoder_hidden_states))
        logits = self.q @ self.k.transpose(-1, -2) / self.q.shape[-1] ** 0.5
        mixed = logits.softmax(-1) @ heads(attn.to_v(encoder_hidden_states))
        return attn.to_out[0](mixed.transpose(1, 2).flatten(2))


@dataclass(frozen=True)
class Observation:
    """One pass of the UNet: the prediction [C, h, w], and per site queries [H, n, d] and keys [H, m, d]."""

    prediction: Tensor
    sites: dict[str, tuple[Tensor, Tensor]]

    def map(self, site: str, kind: str) -> Tensor:
        """The map [H, n, m] of one site, float64 so that pooling adds no error of its own."""
        q, k = self.sites[site]
        return attention_map(q.double(), k.double(), kind)


def attention_map(q: Tensor, k: Tensor, kind: str) -> Tensor:
    """Method, section 2: logits `QKᵀ/√d`, probabilities over all text tokens, or the cosine of queries and
    keys."""
    if kind == "cosine":
        return torch.cosine_similarity(q[:, :, None], k[:, None], dim=-1, eps=0)
    logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return logits if kind == "logits" else logits.softmax(-1)


def site_name(key: str) -> str:
    """`down_blocks.0.attentions.1.…` → `down.0.1`, `mid_block.attentions.0.…` → `mid.0`."""
    parts = key.split(".")
    return f"mid.{parts[2]}" if parts[0] == "mid_block" else f"{parts[0].split('_')[0]}.{parts[1]}.{parts[3]}"


class Reference:
    """A checkpoint folder as diffusers and transformers read it, in float32 on the CPU."""

    def __init__(self, folder: Path, variant: str | None = None) -> None:
        load: dict[str, Any] = {"variant": variant, "local_files_only": True, "use_safetensors": True}
        self.tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        self.text_encoder, loaded = CLIPTextModel.from_pretrained(
            folder / "text_encoder", dtype=torch.float32, output_loading_info=True, **load
        )
        if loaded["missing_keys"] or loaded["mismatched_keys"]:
            raise ValueError(f"transformers did not read the text encoder: {loaded}")
        self.vae = AutoencoderKL.from_pretrained(folder, subfolder="vae", torch_dtype=torch.float32, **load)
        self.unet = UNet2DConditionModel.from_pretrained(
            folder, subfolder="unet", torch_dtype=torch.float32, **load
        )
        self.scheduler = DDIMScheduler.from_config(DDIMScheduler.load_config(folder, subfolder="scheduler"))
        for model in (self.text_encoder, self.vae, self.unet):
            model.eval().requires_grad_(False)
        self._record = {name: RecordingProcessor() for name in self.unet.attn_processors if ".attn2." in name}
        self.unet.set_attn_processor({**self.unet.attn_processors, **self._record})

    def site_names(self) -> list[str]:
        """The cross-attention sites in forward order."""
        stage = {"down": 0, "mid": 1, "up": 2}
        return sorted(map(site_name, self._record), key=lambda name: (stage[name.split(".")[0]], name))

    def tokens(self, text: str) -> tuple[Tensor, slice]:
        """Token numbers [1, 77] and where among them the prompt's own stand."""
        length = self.text_encoder.config.max_position_embeddings
        ids = self.tokenizer(text, padding="max_length", max_length=length, truncation=True)["input_ids"]
        return torch.tensor([ids]), slice(1, ids.index(self.tokenizer.eos_token_id))

    def embed(self, text: str) -> Tensor:
        """τ(y) [m, D]: the text encoder's last hidden state, after its final norm."""
        return self.text_encoder(self.tokens(text)[0]).last_hidden_state[0]

    def latent(self, image: np.ndarray, resolution: int) -> Tensor:
        """z = s·E(x) [C, h, w] of an RGB image [H, W, 3] in 8 bits, E the mean of the encoder's posterior."""
        if image.shape[:2] != (resolution, resolution):
            image = np.asarray(
                Image.fromarray(image).resize((resolution, resolution), Image.Resampling.BICUBIC)
            )
        x = torch.tensor(image).permute(2, 0, 1)[None] / 127.5 - 1
        return self.vae.encode(x).latent_dist.mean[0] * self.vae.config.scaling_factor

    def timesteps(self, steps: int) -> list[int]:
        """The DDIM timesteps, the noisiest first."""
        self.scheduler.set_timesteps(steps)
        return self.scheduler.timesteps.tolist()

    def clipped(self, t: int) -> int:
        """`leading` spacing with an offset lists T itself, for which there is no ᾱ."""
        return min(t, len(self.scheduler.alphas_cumprod) - 1)

    def noised(self, z: Tensor, noise: Tensor, t: int) -> Tensor:
        """Eq. 3."""
        return self.scheduler.add_noise(z[None], noise[None], torch.tensor([self.clipped(t)]))[0]

    def target(self, z: Tensor, noise: Tensor, t: int) -> Tensor:
        """What the UNet is trained to predict: ε, or v = √ᾱ ε − √(1−ᾱ) z."""
        if self.scheduler.config.prediction_type == "epsilon":
            return noise
        return self.scheduler.get_velocity(z[None], noise[None], torch.tensor([self.clipped(t)]))[0]

    def guidance(self, scale: float = 8.5) -> Tensor | None:
        """What the UNet of a latent consistency model takes beside the timestep, [1, d]: the guidance scale, by
        default the pipeline's own."""
        width = self.unet.config.time_cond_proj_dim
        if width is None:
            return None
        embed: Any = LatentConsistencyModelPipeline.get_guidance_scale_embedding
        embedded: Tensor = embed(None, torch.tensor([scale - 1]), embedding_dim=width)
        return embedded

    def observe(self, z_t: Tensor, t: int, embedding: Tensor) -> Observation:
        """One pass of the UNet."""
        prediction = self.unet(
            z_t[None], self.clipped(t), embedding[None], timestep_cond=self.guidance()
        ).sample[0]
        seen = {site_name(key): (record.q[0], record.k[0]) for key, record in self._record.items()}
        return Observation(prediction, {name: seen[name] for name in self.site_names()})


class Recording:
    """Every pair of some images and texts observed once at every timestep, to be scored in many ways."""

    def __init__(
        self, reference: Reference, latents: Sequence[Tensor], texts: Sequence[str], noise: Noise
    ) -> None:
        self.noise = noise
        self.content = [reference.tokens(text)[1] for text in texts]
        self.pairs: dict[tuple[int, int, int], Observation] = {}
        # By form of the error: of an image and a timestep without text, and with each text.
        self.empty: dict[tuple[str, int, int], float] = {}
        self.error: dict[tuple[str, int, int, int], float] = {}
        self._maps: dict[tuple[int, int, int, str], dict[str, Tensor]] = {}
        embeddings, empty = [reference.embed(text) for text in texts], reference.embed("")
        for i, z in enumerate(latents):
            for t, eps in noise.items():
                z_t, target = reference.noised(z, eps, t), reference.target(z, eps, t)
                without_text = reference.observe(z_t, t, empty).prediction
                for form in ERRORS:
                    self.empty[form, i, t] = _error(form, target, without_text)
                for j, embedding in enumerate(embeddings):
                    seen = self.pairs[i, j, t] = reference.observe(z_t, t, embedding)
                    for form in ERRORS:
                        self.error[form, i, j, t] = _error(form, target, seen.prediction)

    def score(self, image: int, text: int, *, method: str = "attention", **options: Any) -> float:
        """The mean over timesteps of the attention score, the denoising score, or their weighted sum."""
        weight = options.pop("denoising_weight", 1.0)
        form, against_empty = options.pop("denoising_error", "norm"), options.pop("unconditional", True)
        parts = []
        if method != "denoising":
            parts.append(_mean(self._attention(image, text, t, **options) for t in self.noise))
        if method != "attention":
            # Section 7: ‖target − prediction(∅)‖ − ‖target − prediction(y)‖, the first only where it is wanted.
            gain = _mean(
                (self.empty[form, image, t] if against_empty else 0.0) - self.error[form, image, text, t]
                for t in self.noise
            )
            parts.append(gain * (weight if method == "combined" else 1.0))
        return sum(parts)

    def _attention(
        self, image: int, text: int, t: int, map: str = "probs", tokens: str = "all", **options: Any
    ) -> float:
        key = (image, text, t, map)
        if key not in self._maps:
            seen = self.pairs[image, text, t]
            self._maps[key] = {site: seen.map(site, map) for site in seen.sites}
        kept = self.content[text] if tokens == "content" else slice(None)
        return attention_score({site: a[..., kept] for site, a in self._maps[key].items()}, **options)


def _error(form: str, a: Tensor, b: Tensor) -> float:
    """The norm of the difference, or the mean of its square."""
    difference = a.double() - b.double()
    return (difference.norm() if form == "norm" else difference.square().mean()).item()


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)
