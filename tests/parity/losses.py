"""The losses of one item, one positive pair after the other (method, section 6)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Pair = tuple[int, int]


def loss_of_item(
    scores: Tensor,
    errors: Tensor,
    match: np.ndarray,
    mismatch: np.ndarray,
    *,
    loss: str = "triplet",
    temperature: float = 1.0,
    negative_kinds: str = "both",
    **options: Any,
) -> Tensor:
    """All arrays are [n_images, n_texts], `errors` mean squared ones."""
    if loss == "diffusion":
        return errors[torch.tensor(match)].mean()
    positives, wrong = candidates(match, mismatch, negative_kinds)
    scores = scores / temperature
    match loss:
        case "triplet":
            return triplet(scores, positives, wrong, **options)
        case "cross_entropy":
            return cross_entropy(scores, positives, wrong)
        case "binary_cross_entropy":
            return binary_cross_entropy(scores, positives, wrong)
    raise ValueError(loss)


def candidates(
    match: np.ndarray, mismatch: np.ndarray, negative_kinds: str
) -> tuple[list[Pair], list[list[list[Pair]]]]:
    """The positives that have any negative, and the negatives of each by kind: another image or another text."""

    def negatives(i: int, j: int, kind: str) -> list[Pair]:
        if kind == "image":
            return [(int(other), j) for other in np.flatnonzero(mismatch[:, j])]
        return [(i, int(other)) for other in np.flatnonzero(mismatch[i])]

    kinds = ("image", "text") if negative_kinds == "both" else (negative_kinds,)
    every = [(int(i), int(j)) for i, j in np.argwhere(match)]
    wrong = {pair: [negatives(*pair, kind) for kind in kinds] for pair in every}
    wrong = {pair: found for pair, found in wrong.items() if any(found)}
    return list(wrong), list(wrong.values())


def triplet(
    scores: Tensor,
    positives: list[Pair],
    wrong: list[list[list[Pair]]],
    *,
    margin: float = 0.2,
    negatives: str = "hardest",
) -> Tensor:
    """Eq. 6, `max(0, s_neg − s_pos + M)` with the hardest negative of all kinds or the mean over them."""
    found = gaps(scores, positives, wrong)
    if negatives == "hardest":
        found = [gap.max() for gap in found]
    return torch.stack([(gap + margin).clamp_min(0).mean() for gap in found]).mean()


def gaps(scores: Tensor, positives: list[Pair], wrong: list[list[list[Pair]]]) -> list[Tensor]:
    """For each positive `s_neg − s_pos` of all its negatives."""
    return [
        torch.stack([scores[other] for others in kinds for other in others]) - scores[pair]
        for pair, kinds in zip(positives, wrong, strict=True)
    ]


def cross_entropy(scores: Tensor, positives: list[Pair], wrong: list[list[list[Pair]]]) -> Tensor:
    """`−log softmax` at the positive, among it and its negatives of one kind; the mean over kinds and
    positives."""

    def one(pair: Pair, others: list[Pair]) -> Tensor:
        return -torch.stack([scores[at] for at in (pair, *others)]).log_softmax(0)[0]

    each = [
        torch.stack([one(pair, others) for others in kinds if others]).mean()
        for pair, kinds in zip(positives, wrong, strict=True)
    ]
    return torch.stack(each).mean()


def binary_cross_entropy(scores: Tensor, positives: list[Pair], wrong: list[list[list[Pair]]]) -> Tensor:
    """Every pair that is a positive or a negative of one, once."""
    negatives = sorted({pair for kinds in wrong for others in kinds for pair in others})
    values = torch.stack([scores[pair] for pair in (*positives, *negatives)])
    truth = torch.tensor([1.0] * len(positives) + [0.0] * len(negatives), dtype=values.dtype)
    return functional.binary_cross_entropy_with_logits(values, truth)
