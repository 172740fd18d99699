"""What is measured: so many images with so many texts."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from discffusion.errors import ConfigError

__all__ = ["WORKLOADS", "Draw", "Workload", "draw"]

# Pictures are this much larger than the model takes them, so that there is something to resize.
_LARGER = 1.25
_LARGEST = 4096


@dataclass(frozen=True)
class Workload:
    """All combinations of so many images and so many texts."""

    images: int
    texts: int

    def __str__(self) -> str:
        return f"{self.images}x{self.texts}"

    @property
    def pairs(self) -> int:
        return self.images * self.texts

    @classmethod
    def parse(cls, text: str) -> Workload:
        """From ``"1x10"``.

        Raises:
            ConfigError: it does not read like that.
        """
        sizes = re.fullmatch(r"([1-9]\d{0,3})[x×]([1-9]\d{0,3})", text.strip())
        if sizes is None:
            raise ConfigError(f"workload is {text!r}; expected IMAGESxTEXTS, as 1x10")
        return cls(int(sizes[1]), int(sizes[2]))


#: by default, and the implementations that are measured in each: a large one costs minutes where nothing is shared
WORKLOADS: Mapping[Workload, tuple[str, ...]] = {
    Workload(1, 1): ("released", "diffusers"),
    Workload(1, 10): ("released", "diffusers"),
    Workload(2, 1): ("released", "diffusers"),
    Workload(2, 2): ("released", "diffusers"),
    Workload(16, 16): ("diffusers-batched",),
}


@dataclass(frozen=True)
class Draw:
    """Encoded pictures (PNG) and captions, no two alike."""

    images: list[bytes]
    texts: list[str]


def draw(workload: Workload, resolution: int, number: int = 0) -> Draw:
    """The pictures and captions of one repeat: scenes of the dataset ``shapes``, other ones for each `number`.

    So nothing that was kept from the repeat before is of use in the next.
    """
    from discffusion.data import load_dataset

    size = min(max(round(resolution * _LARGER), 8), _LARGEST)
    items = load_dataset("shapes", split="test", n=1_000_000, image_size=size)
    images: dict[bytes, None] = {}
    texts: dict[str, None] = {}
    index = 10_000 * number
    while len(images) < workload.images or len(texts) < workload.texts:
        item = items[index]
        if len(texts) < workload.texts:
            texts.setdefault(item.texts[0])
        if len(images) < workload.images:
            images.setdefault(_png(item.images[0]))
        index += 1
    return Draw(list(images), list(texts))


def _png(picture: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, format="PNG", compress_level=1)
    return file.getvalue()
