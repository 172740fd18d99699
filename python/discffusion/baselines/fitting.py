"""How few-shot baselines learn: the loss of an item over its own candidates, and the loop that lowers it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion._arguments import whole_number
from discffusion._extras import need
from discffusion._progress import Progress, reporting
from discffusion.baselines.published import EXTRA
from discffusion.data.item import MatchItem
from discffusion.data.items import Items, comparable
from discffusion.errors import ConfigError, DatasetError, TrainingError

__all__ = ["FitOptions", "check_items", "item_loss", "lower"]

LOSSES = ("contrastive", "triplet")


@dataclass(frozen=True)
class FitOptions:
    """How something is learned, checked; see :meth:`discffusion.baselines.learned.LearnedClip.fit`."""

    epochs: int
    batch_size: int
    seed: int
    learning_rate: float
    weight_decay: float
    loss: str
    margin: float

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), least))
        for name in ("learning_rate", "weight_decay", "margin"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ConfigError(f"{name} is {value!r}; expected a number, 0 or more")
        if self.loss not in LOSSES:
            raise ConfigError(f"loss is {self.loss!r}; expected {' or '.join(LOSSES)}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def check_items(items: Items) -> None:
    """Reads every item once.

    Raises:
        DatasetError: an item has no matching pair, or nothing to compare it with.
    """
    for index in range(len(items)):
        item = items[index]
        if not item.match.any():
            raise DatasetError(f"item {item.key!r} has no matching pair; training needs at least one")
        if not any(comparable(item.match)):
            raise DatasetError(
                f"item {item.key!r} has nothing to compare its matching pairs with: no image or text that does not "
                "match"
            )


def lower(
    parameters: list[Any],
    items: Items,
    options: FitOptions,
    scale: float,
    material: Callable[[MatchItem], Any],
    score: Callable[[Any], Any],
    *,
    keep: bool,
    progress: Progress,
) -> list[dict[str, float]]:
    """Lowers the mean loss of the items in place, and tells the mean of each epoch.

    Args:
        parameters: float32 leaves; AdamW changes them, at a rate that falls to 0 with a cosine.
        scale: what cosines are multiplied by before the cross-entropy.
        material: what is made of an item before it is scored.
        score: cosines ``[n_images, n_texts]`` of that.
        keep: whether the material is the same each time, and kept.

    Raises:
        TrainingError: the loss is not finite.
    """
    torch = need("torch", EXTRA)
    optimiser = torch.optim.AdamW(parameters, lr=options.learning_rate, weight_decay=options.weight_decay)
    steps, done = options.epochs * -(-len(items) // options.batch_size), 0
    kept: dict[int, tuple[NDArray[np.bool_], Any]] = {}
    rows: list[dict[str, float]] = []

    def loss_of(index: int) -> Any:
        entry = kept.get(index)
        if entry is None:
            item = items[index]
            entry = (item.match, material(item))
            if keep:
                kept[index] = entry
        match, made = entry
        return item_loss(score(made), match, options.loss, scale, options.margin)

    with torch.enable_grad(), reporting(progress, "step", patience=0.0, leave=True) as report:
        for epoch in range(options.epochs):
            order = np.random.default_rng((options.seed, epoch)).permutation(len(items)).tolist()
            losses: list[float] = []
            for start in range(0, len(order), options.batch_size):
                parts = torch.stack([loss_of(index) for index in order[start : start + options.batch_size]])
                total = parts.mean()
                if not torch.isfinite(total):
                    raise TrainingError(
                        f"the loss is {total.item()} in epoch {epoch + 1}; lower learning_rate"
                    )
                for group in optimiser.param_groups:
                    group["lr"] = options.learning_rate * 0.5 * (1 + math.cos(math.pi * done / steps))
                optimiser.zero_grad(set_to_none=True)
                total.backward()
                optimiser.step()
                done += 1
                losses += parts.tolist()
                if report is not None:
                    report(done, steps, loss=total.item())
            rows.append({"epoch": epoch + 1, "loss": float(np.mean(losses))})
    return rows


def item_loss(scores: Any, match: NDArray[np.bool_], loss: str, scale: float, margin: float) -> Any:
    """The mean over the matching pairs of an item, each against the rest of its row and of its column.

    Args:
        scores: tensor ``[n_images, n_texts]``, cosines.
        match: which belong together; some of them have something to be compared with.
        loss: ``"contrastive"``, cross-entropy of the pair among those that do not match, or ``"triplet"``, the hinge to
            the hardest of those.
        scale: what cosines are multiplied by before the cross-entropy.
        margin: of the hinge, in cosines.
    """
    torch = need("torch", EXTRA)
    terms = []
    for i, j in zip(*np.nonzero(match), strict=True):
        row = torch.from_numpy(np.flatnonzero(~match[i])).to(scores.device)
        column = torch.from_numpy(np.flatnonzero(~match[:, j])).to(scores.device)
        for others in (scores[i][row], scores[:, j][column]):
            if len(others) == 0:
                continue
            if loss == "triplet":
                terms.append((others.max() - scores[i, j] + margin).clamp(min=0))
            else:
                logits = scale * torch.cat([scores[i, j][None], others])
                terms.append(logits.logsumexp(0) - logits[0])
    return torch.stack(terms).mean()
