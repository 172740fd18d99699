"""Images and texts are embedded once, whatever the number of pairs and of requests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from discffusion import MatchItem, evaluate
from discffusion.baselines import load_baseline
from discffusion.baselines.cache import EmbeddingCache


def counted(baseline: Any, name: str, batch: Callable[..., int]) -> list[int]:
    """How many go through a part of the model, call by call."""
    seen: list[int] = []
    part = getattr(baseline, name)

    def counting(*arguments: Any, **named: Any) -> Any:
        seen.append(batch(*arguments, **named))
        return part(*arguments, **named)

    setattr(baseline, name, counting)
    return seen


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (24, 24, 3), dtype=np.uint8)


def gallery(images: int, texts: int) -> list[MatchItem]:
    """A picture an item, all with the same list of texts: retrieval."""
    captions = [f"caption {k}" for k in range(texts)]
    return [
        MatchItem(f"{k}", [picture(k)], captions, [[j % images == k for j in range(texts)]])
        for k in range(images)
    ]


@pytest.fixture
def clip() -> tuple[Any, list[int], list[int]]:
    baseline = load_baseline("clip", model="pocket", device="cpu")
    texts = counted(baseline, "_text_features", lambda tokens: len(tokens["input_ids"]))
    return baseline, counted(baseline, "_image_features", len), texts


def test_retrieval_embeds_every_image_and_text_once(clip: tuple[Any, list[int], list[int]]) -> None:
    baseline, images, texts = clip
    report = evaluate(baseline, gallery(40, 200), "retrieval")
    assert (sum(images), sum(texts)) == (40, 200)
    fresh = load_baseline("clip", model="pocket", device="cpu")
    whole = fresh.matrix([picture(k) for k in range(40)], [f"caption {k}" for k in range(200)])
    scores = np.concatenate([record.scores for record in sorted(report.records, key=lambda of: int(of.key))])
    np.testing.assert_allclose(scores, whole, atol=1e-6)


def test_texts_and_images_that_come_in_other_company_are_embedded_once(
    clip: tuple[Any, list[int], list[int]],
) -> None:
    baseline, images, texts = clip
    draw = np.random.default_rng(0)
    items = [
        MatchItem(
            f"{k}",
            [picture(int(i)) for i in draw.permutation(6)[:2]],
            [f"caption {int(j)}" for j in draw.permutation(9)[:4]],
            [[True, False, False, False]] * 2,
        )
        for k in range(40)
    ]
    evaluate(baseline, items, "accuracy", batch_items=1)
    assert (sum(images), sum(texts)) == (6, 9)
    baseline.matrix([picture(0), picture(7)], ["caption 1", "new", "new"])
    assert (sum(images), sum(texts)) == (7, 10)
    baseline.embed_texts(["new", "caption 2"])
    assert sum(texts) == 10


def test_open_clip_too(open_clip_folder: Path) -> None:
    baseline = load_baseline("open-clip", model=open_clip_folder, batch_size=16)
    images = counted(baseline._model, "encode_image", len)
    texts = counted(baseline._model, "encode_text", len)
    evaluate(baseline, gallery(8, 80), "retrieval")
    assert (sum(images), sum(texts)) == (8, 80)


def test_blip2_sees_an_image_once(blip2_folder: Path) -> None:
    baseline = load_baseline("blip2-itm", model=blip2_folder, batch_size=4)
    images = counted(baseline, "_features", len)
    items = [MatchItem(f"{k}", [picture(k % 2)], [f"a {k}", "b"], [[True, False]]) for k in range(6)]
    found = evaluate(baseline, items, "accuracy", batch_items=1)
    assert sum(images) == 2
    fresh = load_baseline("blip2-itm", model=blip2_folder)
    np.testing.assert_allclose(found.records[3].scores, fresh.matrix([picture(1)], ["a 3", "b"]), atol=1e-6)


def test_what_was_embedded_before_tuning_is_not_used_after(clip_folder: Path, items: list[MatchItem]) -> None:
    tuned = load_baseline("clip-tuned", model=clip_folder)
    images, texts = [picture(0)], ["a red circle", "yellow"]
    tuned.fit(items, epochs=1, learning_rate=1e-2)
    first = tuned.matrix(images, texts)
    tuned.fit(items, epochs=3, learning_rate=1e-2)
    second = tuned.matrix(images, texts)
    assert np.abs(second - first).max() > 1e-4
    tuned.fit(items, epochs=1, learning_rate=1e-2)
    np.testing.assert_allclose(tuned.matrix(images, texts), first, atol=1e-6)


def test_what_is_kept_is_bounded() -> None:
    """Four rows of 8 bytes: the latest request stays, of a larger one the first."""
    kept, made = EmbeddingCache(32), []

    def rows(keys: str) -> list[float]:
        def make(places: list[int]) -> list[np.ndarray]:
            made.extend(keys[place] for place in places)
            return [np.array([float(ord(keys[place]))]) for place in places]

        return [float(row[0]) for row in kept.rows(keys, make)]

    assert rows("aba") == [97, 98, 97] and made == ["a", "b"]
    assert rows("cdea") == [99, 100, 101, 97] and made == list("abcde")
    assert len(kept._rows) == 4 and set(kept._rows) == set("acde")
    made.clear()
    for _ in range(3):  # six do not fit: four of them are found again each time
        rows("uvwxyz")
    assert made == list("uvwxyz") + list("yz") * 2
    assert sum(row.nbytes for row in kept._rows.values()) <= 32
    kept.forget()
    assert not kept._rows
