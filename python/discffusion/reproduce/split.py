"""A small part of a dataset to train on, by images: no image that is trained on is among those tested."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Cut", "cut_by_images"]


@dataclass(frozen=True)
class Cut:
    """Indices of items to train on and to test on, ascending; `dropped` have images on both sides and serve neither."""

    train: tuple[int, ...]
    test: tuple[int, ...]
    dropped: int


def cut_by_images(images: Sequence[Iterable[str]], share: float, seed: int = 0) -> Cut:
    """Takes about `share` of the items to train on.

    Images are added one by one, next the one of whose items most lie within the images taken already, until enough
    items do. Items that join a taken image with another one are dropped from both sides; in ComVG, where images recur
    in many rows, they are a few percent.

    Args:
        images: of each item, references of its images.
        share: of the items, above 0 and below 1.
        seed: chooses the image to begin with.
    """
    sets = [frozenset(of) for of in images]
    wanted = max(1, round(share * len(sets)))
    of_image: dict[str, list[int]] = defaultdict(list)
    for index, names in enumerate(sets):
        for name in names:
            of_image[name].append(index)
    order = sorted(of_image)
    random.Random(seed).shuffle(order)
    rank = {name: place for place, name in enumerate(order)}
    missing = [len(names) for names in sets]  # images of the item that are not taken yet
    one_short: Counter[str] = Counter()  # by image: items that it would complete
    for names in sets:
        if len(names) == 1:
            one_short.update(names)
    taken: set[str] = set()
    complete = 0
    start = iter(order)
    touched: set[str] = set()  # not taken, and in an item with a taken one
    while complete < wanted and len(taken) < len(order):
        if touched:
            name = max(touched, key=lambda n: (one_short[n] / len(of_image[n]), one_short[n], -rank[n]))
        else:
            name = next(image for image in start if image not in taken)
        taken.add(name)
        touched.discard(name)
        for index in of_image[name]:
            missing[index] -= 1
            rest = sets[index] - taken
            touched |= rest
            complete += missing[index] == 0
            if missing[index] == 1:
                one_short.update(rest)
    train = tuple(index for index, names in enumerate(sets) if names <= taken)
    test = tuple(index for index, names in enumerate(sets) if not names & taken)
    return Cut(train, test, len(sets) - len(train) - len(test))
