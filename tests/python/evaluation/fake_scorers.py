"""Scorers by a rule, which remember what they were asked, and items for them."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from discffusion import MatchItem
from discffusion.images import prepare


def rule(image: Any, text: str, seed: int = 0) -> float:
    """A number from 0 to 1 that anything about the image or the text changes."""
    found = prepare(image)
    data = found if isinstance(found, bytes) else found.tobytes()
    return zlib.crc32(data + text.encode() + bytes([seed])) / 2**32


class ByPairs:
    """Scores pairs, and says all that a scorer can say."""

    def __init__(self, seed: int = 0, **told: Any) -> None:
        self.seed, self.told = seed, told
        self.calls: list[tuple[int, int, int]] = []  # images, texts and pairs of each call

    def score_pairs(
        self, images: Sequence[Any], texts: Sequence[str], pairs: Sequence[tuple[int, int]]
    ) -> Any:
        self.calls.append((len(images), len(texts), len(pairs)))
        return np.array([self.value(images[i], texts[j]) for i, j in pairs])

    def value(self, image: Any, text: str) -> float:
        return rule(image, text, self.seed)

    def describe(self) -> dict[str, Any]:
        config = {"seed": self.seed, "lambda_": 10.0, "batch_size": "auto"}
        return {"model": "rule", "config": config, "timesteps": [100, 500], "device": "cpu", **self.told}

    def count_tokens(self, texts: Iterable[str]) -> list[tuple[int, bool]]:
        return [(len(text.split()) + 2, len(text.split()) > 5) for text in texts]


class ByMatrix:
    """Has ``matrix`` and nothing else."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def matrix(self, images: Sequence[Any], texts: Sequence[str]) -> Any:
        self.calls.append((len(images), len(texts)))
        return [[rule(image, text) for text in texts] for image in images]


def picture(number: int) -> np.ndarray:
    """A small picture of one colour that no other number has."""
    return np.full((4, 4, 3), number, dtype=np.uint8)


def pixels_sha256(number: int) -> str:
    return hashlib.sha256(b"(4, 4, 3)" + bytes([number]) * 48).hexdigest()


def item(number: int, **fields: Any) -> MatchItem:
    """Two pictures and two texts, of its own; the first belongs to the first."""
    return MatchItem(
        **{
            "key": f"item {number}",
            "images": [picture(2 * number), picture(2 * number + 1)],
            "texts": [f"text {number}", f"other text {number}"],
            "match": np.eye(2, dtype=bool),
            "group": "even" if number % 2 == 0 else "odd",
            **fields,
        }
    )


def items(number: int) -> list[MatchItem]:
    return [item(n) for n in range(number)]


def expected(given: MatchItem, seed: int = 0) -> np.ndarray:
    return np.array([[rule(image, text, seed) for text in given.texts] for image in given.images])
