"""Measure a trained model and write its model card: ``python -m tools.pocket.report --model DIR``."""

from __future__ import annotations

import argparse
import math
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel

from discffusion.data.shapes.dataset import MAIN
from tools.pocket.card import CARD
from tools.pocket.diffusion import Denoiser
from tools.pocket.evaluation import Questions
from tools.pocket.files import write_atomically
from tools.pocket.measure import Readings, accuracy, at, attention_scores, denoising_scores
from tools.pocket.tokenizer import open_tokenizer

TRAILING = [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]
#: where the attention maps tell most, chosen on the split eval
MIDDLE = [649, 599, 549, 499, 449, 399, 349, 299]
_ALL = sorted({*TRAILING, *MIDDLE}, reverse=True)

Figure = tuple[str, list[float]]  # name of a score, its accuracy on each subset


def open_model(folder: Path) -> tuple[Denoiser, AutoencoderKL]:
    """The model and its VAE in single precision."""
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    text = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    return Denoiser(unet, text).eval(), vae.eval()


def measure(folder: Path, split: str, n: int, seed: int, workers: int) -> dict[str, Readings]:
    """Readings of ``n`` items of each main subset, the subsets spread over processes."""
    jobs = [(folder, split, n, seed, subset) for subset in MAIN]
    if workers == 1:
        return dict(zip(MAIN, map(_measure_one, jobs), strict=True))
    with get_context("spawn").Pool(workers) as pool:
        by_subset = {}
        for subset, readings in zip(MAIN, pool.imap(_measure_one, jobs), strict=True):
            by_subset[subset] = readings
            print(f"{subset}: done", flush=True)
        return by_subset


def _measure_one(job: tuple[Path, str, int, int, str]) -> Readings:
    folder, split, n, seed, subset = job
    torch.set_num_threads(1)
    model, vae = open_model(folder)
    questions = Questions(vae, open_tokenizer(folder / "tokenizer"), split, n, seed, subsets=(subset,))
    with torch.autocast("cpu", torch.bfloat16):
        return questions.read(model, (subset,), _ALL, seed, list(SHOWN))[subset]


def figures(
    readings: dict[str, Readings], options: tuple[str, ...], lasts: tuple[int | None, ...]
) -> list[Figure]:
    """Accuracies of the denoising scores and of attention options at both choices of timesteps."""
    rows: dict[str, list[float]] = {}
    for one in readings.values():
        for when, timesteps in (("trailing", TRAILING), ("middle", MIDDLE)):
            part = at(one, timesteps)
            scores = denoising_scores(part)
            for last in lasts:
                where = "all layers" if last is None else f"last({last})"
                scores.update(
                    {f"{o}, {where}": s for o, s in attention_scores(part, last).items() if o in options}
                )
            for name, score in scores.items():
                rows.setdefault(f"{name}, {when}", []).append(float(accuracy(score).mean()))
    return list(rows.items())


def wilson(share: float, n: int) -> tuple[float, float]:
    """95 % interval of a share of ``n``."""
    z = 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return middle - half, middle + half


def markdown(rows: list[Figure], n: int) -> str:
    """A table in percent; intervals count items, since the four comparisons of one item are not independent."""

    def cell(share: float, count: int) -> str:
        low, high = wilson(share, count)
        return f"{100 * share:.1f} ({100 * low:.1f}-{100 * high:.1f})"

    lines = ["| score | " + " | ".join((*MAIN, "mean")) + " |", "| --- |" + " ---: |" * (len(MAIN) + 1)]
    for name, shares in rows:
        cells = [cell(share, n) for share in shares] + [cell(float(np.mean(shares)), n * len(shares))]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.pocket.report", description=__doc__)
    parser.add_argument(
        "--model", type=Path, required=True, help="folder of the model; its README.md is replaced"
    )
    parser.add_argument("--split", default="test")
    parser.add_argument("--n", type=int, default=400, help="items of each subset")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    readings = measure(given.model, given.split, given.n, given.seed, given.workers)
    rows = figures(readings, SHOWN, (None, 2, 1))
    print(markdown(sorted(rows, key=lambda row: -np.mean(row[1])), given.n))
    card = CARD.format(table=markdown(rows, given.n), n=given.n, split=given.split, seed=given.seed)
    write_atomically(given.model / "README.md", lambda path: path.write_text(card, encoding="utf-8"))


#: attention options of the card's table
SHOWN = (
    "logits/lse1/all", "logits/max_row/all", "cosine/lse10/all", "cosine/lse30/all", "cosine/max_row/all",
    "probs/lse1/all", "probs/lse10/all", "probs/max_row/content",
)  # fmt: skip

if __name__ == "__main__":
    main()
