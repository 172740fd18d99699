"""Train the pocket model from nothing: ``python -m tools.pocket.train --out DIR``.

Needs the development dependencies diffusers and transformers. Started again with the same command after an
interruption, it goes on where it was. The model lies in ``DIR/model`` and is replaced at each check.

``torchrun --nproc-per-node N -m tools.pocket.train --out DIR`` trains the UNet with N processes, one part of each
batch in each; on a CPU that is shared, N processes of one thread wait less for each other than N threads.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from diffusers import AutoencoderKL

from tools.pocket.autoencoder import encode, reconstruction_error, train_vae
from tools.pocket.corpus import Corpus, load_corpus
from tools.pocket.diffusion import Denoiser, Material, Recipe, build, train
from tools.pocket.evaluation import Questions, table, tokenize
from tools.pocket.export import export
from tools.pocket.files import write_atomically
from tools.pocket.tokenizer import open_tokenizer, write_tokenizer


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.pocket.train", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run and of the model")
    parser.add_argument("--pictures", type=int, default=80_000, help="size of the training set")
    parser.add_argument("--vae-steps", type=int, default=1600)
    parser.add_argument(
        "--check-every", type=int, default=1000, help="steps between checks on the split eval"
    )
    parser.add_argument("--check-items", type=int, default=16, help="items of each subset in a check")
    parser.add_argument("--threads", type=int, default=0, help="0: as torch chooses")
    for field in fields(Recipe):
        flag = "--" + field.name.replace("_", "-")
        if isinstance(field.default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=field.default)
        else:
            parser.add_argument(flag, type=type(field.default), default=field.default)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    recipe = Recipe(**{field.name: getattr(options, field.name) for field in fields(Recipe)})
    out: Path = options.out
    distributed = "WORLD_SIZE" in os.environ
    if distributed:
        dist.init_process_group("gloo", timeout=timedelta(hours=2))
        if dist.get_rank() > 0:
            dist.barrier()  # the first process prepares what all read
    corpus = load_corpus(out, options.pictures, recipe.seed)
    vae = train_vae(corpus.pictures, out / "vae.pt", options.vae_steps, seed=recipe.seed)
    write_tokenizer(out / "tokenizer", corpus.captions)
    tokenizer = open_tokenizer(out / "tokenizer")
    material = _prepare(out, corpus, vae, tokenize(tokenizer, corpus.captions))
    questions = Questions(
        vae, tokenizer, "eval", options.check_items, seed=1, cache=out / f"questions-{options.check_items}.pt"
    )
    if distributed and dist.get_rank() == 0:
        dist.barrier()
    model = build(len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id, recipe.seed)

    def check(averaged: Denoiser, step: int) -> None:
        export(out / "model", averaged, vae, out / "tokenizer")
        print(f"step {step}, split eval, {options.check_items} items a subset")
        print(table(questions.read(averaged)), flush=True)

    train(model, material, recipe, out / "unet.pt", options.check_every, check)
    if distributed:
        dist.destroy_process_group()


def _prepare(out: Path, corpus: Corpus, vae: AutoencoderKL, tokens: torch.Tensor) -> Material:
    """Latents of the corpus at unit variance; their scale goes into the VAE's configuration."""
    file = out / "latents.pt"
    if not file.exists():
        print(f"vae: rmse {reconstruction_error(vae, corpus.pictures[:500]):.2f}/255", flush=True)
        latents = encode(vae, corpus.pictures)
        write_atomically(file, lambda path: torch.save(latents, path))
    latents = torch.load(file, weights_only=True)
    scale = round(1 / latents.std().item(), 5)
    vae.register_to_config(scaling_factor=scale)
    return Material(latents * scale, tokens, corpus.choices)


if __name__ == "__main__":
    main()
