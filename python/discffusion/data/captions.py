"""Images with their captions, as a retrieval task over all of them or as pairs to train on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from discffusion.data.files import item
from discffusion.data.item import MatchItem
from discffusion.data.lazy import Dataset
from discffusion.errors import DatasetError

__all__ = ["TASKS", "Captioned", "of_task"]

TASKS = ("retrieval", "pretraining")


class Captioned(NamedTuple):
    """An image and the texts that describe it.

    Attributes:
        where: file and record, for messages.
        key: of the image.
        image: whatever `fetch` of :func:`of_task` makes the image of.
        captions: at least one.
        keys: a key for every caption; None numbers them.
    """

    where: str
    key: str
    image: Any
    captions: Sequence[str]
    keys: Sequence[str] | None = None


def of_task(
    name: str,
    task: str,
    images: Sequence[Captioned],
    fetch: Callable[[Captioned], tuple[Any, str]],
    *,
    listed: Sequence[Captioned],
    missing: Sequence[str],
    about: Mapping[str, Any],
    left_out: int = 0,
) -> Dataset[Any]:
    """The dataset of a task.

    ``"retrieval"``: an item is 1 image × all texts, the same list object in every item, for the metric ``retrieval``.
    A text matches an image if it is, letter for letter, one of the image's captions: where two images share a caption,
    both of its places match both. ``"pretraining"``: an item is 1 image × 1 caption that matches; there is nothing to
    compare it with in the item itself, so that ``metrics`` is empty (``Trainer(in_batch=True)`` compares the items of
    a batch).

    Args:
        images: those that are there.
        fetch: makes the image, and says its reference.
        listed: all that the annotations hold.
        left_out: items besides these that were left out and said so in ``about["notes"]``.

    Raises:
        DatasetError: there are no captions at all.
    """
    if not images:
        raise DatasetError(f"{name}: there are no images with captions")
    if task == "pretraining":
        pairs = [(image, place) for image in images for place in range(len(image.captions))]

        def pair(row: tuple[Captioned, int]) -> MatchItem:
            image, place = row
            key = image.keys[place] if image.keys else f"{image.key}/{place}"
            pixels, reference = fetch(image)
            text = image.captions[place]
            return item(
                image.where, key, [pixels], [text], np.ones((1, 1), bool), meta={"images": [reference]}
            )

        return Dataset(
            name,
            pairs,
            pair,
            metrics=(),
            expected=sum(len(image.captions) for image in listed) + left_out,
            missing=missing,
            about={**about, "task": task},
        )

    texts = [text for image in images for text in image.captions]
    places: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        places.setdefault(text, []).append(place)
    owners = Counter(text for image in images for text in set(image.captions))
    shared = sum(count > 1 for count in owners.values())

    def against_all(image: Captioned) -> MatchItem:
        match = np.zeros((1, len(texts)), bool)
        match[0, [place for text in image.captions for place in places[text]]] = True
        pixels, reference = fetch(image)
        return item(image.where, image.key, [pixels], texts, match, meta={"images": [reference]})

    notes = list(about.get("notes", ()))
    if shared:
        notes.append(f"{shared} texts describe more than one image and match each of them")
    return Dataset(
        name,
        images,
        against_all,
        metrics=("retrieval",),
        expected=len(listed) + left_out,
        missing=missing,
        about={**about, "task": task, "texts": len(texts), "notes": notes},
    )
