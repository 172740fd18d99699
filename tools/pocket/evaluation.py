"""Accuracy per subset of ``shapes`` during and after training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from transformers import CLIPTokenizer

from discffusion.data import load_dataset
from discffusion.data.shapes.dataset import MAIN
from tools.pocket.architecture import MAX_TOKENS
from tools.pocket.autoencoder import encode
from tools.pocket.diffusion import Denoiser
from tools.pocket.files import write_atomically
from tools.pocket.measure import Readings, accuracy, attention_scores, denoising_scores, read

SUBSETS = (*MAIN, "winoground")


class Questions:
    """Items of ``shapes``, encoded once: subset -> (latents ``[n, 2, 4, 8, 8]``, tokens ``[n, 2, 77]``)."""

    def __init__(
        self,
        vae: AutoencoderKL,
        tokenizer: CLIPTokenizer,
        split: str,
        n: int,
        seed: int,
        cache: Path | None = None,
        subsets: tuple[str, ...] = SUBSETS,
    ) -> None:
        if cache is not None and cache.exists():
            self.encoded = torch.load(cache, weights_only=True)
            return
        self.encoded = {}
        for subset in subsets:
            items = list(load_dataset("shapes", split=split, subset=subset, n=n, seed=seed))
            pictures = np.stack([np.asarray(image) for item in items for image in item.images])
            texts = [text for item in items for text in item.texts]
            latents = encode(vae, pictures) * vae.config.scaling_factor
            self.encoded[subset] = (
                latents.unflatten(0, (-1, 2)),
                tokenize(tokenizer, texts).unflatten(0, (-1, 2)),
            )
        if cache is not None:
            write_atomically(cache, lambda path: torch.save(self.encoded, path))

    def read(
        self,
        model: Denoiser,
        subsets: tuple[str, ...] = SUBSETS,
        timesteps: list[int] | None = None,
        seed: int = 0,
        wanted: list[str] | None = None,
    ) -> dict[str, Readings]:
        return {s: read(model, *self.encoded[s], timesteps, seed, wanted=wanted) for s in subsets}


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """int64 ``[n, 77]``."""
    encoded = tokenizer(texts, padding="max_length", truncation=True, max_length=MAX_TOKENS)
    return torch.tensor(encoded.input_ids)


def table(readings: dict[str, Readings], options: tuple[str, ...] | None = None, best: int = 8) -> str:
    """Accuracy of the denoising scores, and of the given or the best attention options, per subset, in percent."""
    rows: dict[str, list[float]] = {}
    for one in readings.values():
        for name, scores in {**denoising_scores(one), **attention_scores(one)}.items():
            rows.setdefault(name, []).append(100 * float(accuracy(scores).mean()))
    main = min(len(MAIN), len(readings))
    attention = sorted((n for n in rows if "denoising" not in n), key=lambda n: -np.mean(rows[n][:main]))
    shown = [n for n in rows if "denoising" in n] + list(options or attention[:best])
    head = f"{'score':34}" + "".join(f"{s[:10]:>11}" for s in readings) + f"{'mean of 4':>11}"
    lines = [
        f"{n:34}" + "".join(f"{v:11.1f}" for v in rows[n]) + f"{np.mean(rows[n][:main]):11.1f}" for n in shown
    ]
    return "\n".join([head, *lines])
