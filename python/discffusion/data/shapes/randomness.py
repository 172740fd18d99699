"""Random draws that stay the same on every platform and Python version.

Only ``random.Random.random`` is promised to be stable, so every draw goes through it.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def generator(*key: object) -> random.Random:
    """A generator that depends on the parts of ``key`` alone."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "little"))


def integer(rng: random.Random, low: int, high: int) -> int:
    """Uniform in ``low .. high``, both included."""
    return low + int(rng.random() * (high - low + 1))


def pick(rng: random.Random, options: Sequence[T]) -> T:
    """One of the options, uniformly."""
    return options[int(rng.random() * len(options))]


def shuffled(rng: random.Random, options: Sequence[T]) -> list[T]:
    """The options in a random order."""
    return [options[i] for _, i in sorted((rng.random(), i) for i in range(len(options)))]


def fraction(text: str) -> float:
    """A number in [0, 1) that depends on the text alone, evenly spread."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64
