"""Train the small CLIP on ``shapes``: ``python -m tools.pocket.clip --out DIR``.

The same command continues an interrupted run. Needs transformers, safetensors and regex.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from transformers import CLIPModel

from discffusion.data import load_dataset
from discffusion.data.shapes.dataset import MAIN
from discffusion.pocket import MODEL_DIR
from tools.pocket.architecture import MAX_TOKENS
from tools.pocket.autoencoder import to_pixels
from tools.pocket.clip_parts import build_clip, export_clip
from tools.pocket.corpus import WEIGHTS, Corpus, load_corpus
from tools.pocket.files import load_state, save_state
from tools.pocket.measure import accuracy
from tools.pocket.tokenizer import open_tokenizer

SUBSETS = (*MAIN, "winoground")


@dataclass(frozen=True)
class Recipe:
    """How the CLIP is trained; the learning rate rises linearly, then falls with a cosine."""

    steps: int = 1500
    batch: int = 256
    rate: float = 1e-3
    warm_up: int = 100
    weight_decay: float = 0.05
    seed: int = 0

    def rate_at(self, step: int) -> float:
        done = max(0, step - self.warm_up) / max(1, self.steps - self.warm_up)
        return self.rate * min((step + 1) / self.warm_up, 0.5 + 0.5 * math.cos(math.pi * min(1.0, done)))


def tokenize(tokenizer: object, texts: list[str]) -> torch.Tensor:
    """int64 ``[n, m]``, padded to the longest: the text tower is causal and reads the end token's place."""
    encoded = tokenizer(texts, padding="longest", truncation=True, max_length=MAX_TOKENS)  # type: ignore[operator]
    return torch.tensor(encoded["input_ids"])


def contrastive(model: CLIPModel, pixels: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """CLIP's symmetric loss over the batch; another picture of the very same caption is no negative."""
    logits = model(pixel_values=pixels, input_ids=tokens).logits_per_image
    same = (tokens[:, None] == tokens[None]).all(-1) & ~torch.eye(len(tokens), dtype=torch.bool)
    logits = logits.masked_fill(same, -torch.inf)
    target = torch.arange(len(tokens))
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2


def train(
    model: CLIPModel,
    corpus: Corpus,
    tokens: torch.Tensor,
    recipe: Recipe,
    state_file: Path,
    every: int,
    check: Callable[[CLIPModel, int], None],
) -> None:
    """Train up to ``recipe.steps``, from ``state_file`` where it exists; ``check`` is called each ``every`` steps."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98), eps=1e-6)
    start = 0
    if (state := load_state(state_file)) is not None:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        start = state["step"]
    model.train()
    began, losses = time.time(), []
    for step in range(start, recipe.steps):
        rng = np.random.default_rng((recipe.seed, step))
        rows = rng.integers(0, len(corpus.pictures), recipe.batch)
        captions = corpus.choices[rows, rng.choice(len(WEIGHTS), recipe.batch, p=WEIGHTS)]
        loss = contrastive(model, to_pixels(corpus.pictures[rows]), tokens[torch.from_numpy(captions).long()])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate_at(step)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(100))
        losses.append(loss.item())
        done = step + 1
        if done % 50 == 0:
            pace = (time.time() - began) / (done - start)
            print(f"clip {done} loss {np.mean(losses[-50:]):.4f} {pace:.3f} s/step", flush=True)
        if done % 250 == 0 or done == recipe.steps:
            kept = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": done}
            save_state(state_file, kept)
        if done % every == 0 or done == recipe.steps:
            check(model.eval(), done)
            model.train()


@torch.no_grad()
def selection(
    model: CLIPModel, tokenizer: object, split: str, n: int, seed: int, subsets: tuple[str, ...] = SUBSETS
) -> dict[str, float]:
    """Subset -> share of right comparisons over ``n`` items (two of images and two of texts an item)."""
    shares = {}
    for subset in subsets:
        items = list(load_dataset("shapes", split=split, subset=subset, n=n, seed=seed))
        pictures = np.stack([np.asarray(image) for item in items for image in item.images])
        tokens = tokenize(tokenizer, [text for item in items for text in item.texts])
        image = model.get_image_features(pixel_values=to_pixels(pictures)).pooler_output
        text = model.get_text_features(input_ids=tokens).pooler_output
        pairs = (functional.normalize(x, dim=-1).unflatten(0, (-1, 2)) for x in (image, text))
        shares[subset] = float(accuracy(torch.einsum("nie,nje->nij", *pairs).numpy()).mean())
    return shares


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.pocket.clip", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run and of the model")
    parser.add_argument("--pictures", type=int, default=80_000, help="size of the training set")
    parser.add_argument("--check-every", type=int, default=500, help="steps between checks on the split eval")
    parser.add_argument("--check-items", type=int, default=200, help="items of each subset in a check")
    parser.add_argument("--threads", type=int, default=0, help="0: as torch chooses")
    for field in fields(Recipe):
        parser.add_argument(
            "--" + field.name.replace("_", "-"), type=type(field.default), default=field.default
        )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    recipe = Recipe(**{field.name: getattr(options, field.name) for field in fields(Recipe)})
    out: Path = options.out
    corpus = load_corpus(out, options.pictures, recipe.seed)
    tokenizer = open_tokenizer(MODEL_DIR / "tokenizer")  # the words are those of the pocket model
    tokens = tokenize(tokenizer, corpus.captions)
    torch.manual_seed(recipe.seed)
    model = build_clip(len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id)

    def check(trained: CLIPModel, step: int) -> None:
        export_clip(out / "clip_model", trained, MODEL_DIR / "tokenizer")
        shares = selection(trained, tokenizer, "eval", options.check_items, seed=1)
        cells = "  ".join(f"{subset} {100 * share:.1f}" for subset, share in shares.items())
        print(f"step {step}, split eval, {options.check_items} items a subset: {cells}", flush=True)

    train(model, corpus, tokens, recipe, out / "clip.pt", options.check_every, check)


if __name__ == "__main__":
    main()
