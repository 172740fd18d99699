"""Measure the small CLIP and write its model card: ``python -m tools.pocket.clip_report --model DIR``."""

from __future__ import annotations

import argparse
from pathlib import Path

from discffusion.baselines import load_baseline
from discffusion.data import load_dataset
from tools.pocket.clip import SUBSETS
from tools.pocket.files import write_atomically
from tools.pocket.measure import accuracy
from tools.pocket.report import wilson

CARD = """# Small CLIP of the shapes world

A CLIP of 1.2 M parameters (32 x 32 pixels) that knows one small world, `shapes`: the same pictures and words as the
pocket Stable Diffusion. It stands in for CLIP where baselines are compared without a download:
`load_baseline("clip", model="pocket")`. It is of no use on photographs.

## Parts

A `CLIPModel` as transformers publishes it (`CLIPModel.from_pretrained`, `CLIPProcessor.from_pretrained`), in half
precision. Vision tower: 16 patches of 8 x 8, 4 layers, width 128. Text tower: 3 layers, width 96, 77 positions, the
pocket model's tokenizer (604 tokens). Embeddings of 96.

## Data and recipe

The 80,000 scenes and the captions of the pocket Stable Diffusion (split `train` of `discffusion.data.shapes`, seed 0;
84 % of the captions say all, the others leave out the relation or the colours, or are a question with its answer).
CLIP's symmetric contrastive loss over batches of 256, where another picture of the very same caption does not count as
a negative; no hard negatives are made. 1,600 steps of AdamW, up to 1.5e-3 after 100 steps of warm-up, then a cosine to
0; weight decay 0.05. About 15 minutes of one core. No option was chosen by its accuracy on `eval`; the length was set
before the run.

    python -m tools.pocket.clip --out DIR --steps 1600 --rate 1.5e-3 --threads 1

## Figures

Image and text selection, zero-shot, in percent: mean of the four comparisons of an item, {n} items a subset, split
`{split}`, seed {seed} (not used in development). In brackets 95 % Wilson intervals that count items, not comparisons.
Measured with `python -m tools.pocket.clip_report`.

{table}

## Limits

It was trained on the world it is tested in, with captions that name everything in it, and that world is so small that
for half of the captions of a batch another one differs in a single word. So it is far better at this than CLIP is on
photographs, and says nothing about how well published CLIP models tell the order of words. Of the subsets it is weakest
where two texts have the same words in another order (`winoground`).
"""


def measure(folder: Path, split: str, n: int, seed: int) -> dict[str, float]:
    """Subset -> share of right comparisons over ``n`` items."""
    clip = load_baseline("clip", model=folder, device="cpu", dtype="float32")
    shares = {}
    for subset in SUBSETS:
        items = list(load_dataset("shapes", split=split, subset=subset, n=n, seed=seed))
        images = [image for item in items for image in item.images]
        texts = [text for item in items for text in item.texts]
        pairs = [(2 * i + a, 2 * i + b) for i in range(n) for a in (0, 1) for b in (0, 1)]
        scores = clip.score_pairs(images, texts, pairs).reshape(n, 2, 2)
        shares[subset] = float(accuracy(scores).mean())
    return shares


def table(shares: dict[str, float], n: int) -> str:
    lines = ["| subset | accuracy |", "| --- | ---: |"]
    for name, share in shares.items():
        low, high = wilson(share, n)
        lines.append(f"| {name} | {100 * share:.1f} ({100 * low:.1f}-{100 * high:.1f}) |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.pocket.clip_report", description=__doc__)
    parser.add_argument(
        "--model", type=Path, required=True, help="folder of the model; its README.md is replaced"
    )
    parser.add_argument("--split", default="test")
    parser.add_argument("--n", type=int, default=400, help="items of each subset")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    figures = table(measure(given.model, given.split, given.n, given.seed), given.n)
    print(figures)
    card = CARD.format(table=figures, n=given.n, split=given.split, seed=given.seed)
    write_atomically(given.model / "README.md", lambda path: path.write_text(card, encoding="utf-8"))


if __name__ == "__main__":
    main()
