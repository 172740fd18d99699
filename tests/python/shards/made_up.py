"""Shards of made-up pictures, a scorer that needs no model, and workers that can be killed.

``python -m tests.python.shards.made_up IN OUT INDEX COUNT`` is such a worker; it prints a line a shard.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow.parquet
from tests.python.data.shards import shard

import discffusion
from discffusion import score_shards
from discffusion.errors import ImageError

ROOT = Path(__file__).parents[3]


class ByDigest:
    """Scores depend on the bytes of an image and on the text alone; remembers what it was asked."""

    def __init__(self, seconds: float = 0.0, longest: int = 77) -> None:
        self.calls: list[tuple[int, int]] = []
        self.seconds, self.longest = seconds, longest

    def describe(self) -> dict[str, Any]:
        return {"model": "by digest", "score_version": 1}

    def count_tokens(self, texts: Sequence[str]) -> list[tuple[int, bool]]:
        return [(min(len(text), self.longest), len(text) > self.longest) for text in texts]

    def score_pairs(
        self, images: Sequence[bytes], texts: Sequence[str], pairs: Sequence[tuple[int, int]]
    ) -> np.ndarray:
        for place, data in enumerate(images):
            if not data.startswith((b"\x89PNG", b"\xff\xd8")) or len(data) < 60:
                raise ImageError(f"image {place} of {len(images)}: no image")
        self.calls.append((len(images), len(pairs)))
        time.sleep(self.seconds)
        return np.array([expected(images[i], texts[j]) for i, j in pairs])


def expected(image: bytes, text: str) -> float:
    digest = hashlib.sha256(hashlib.sha256(image).digest() + text.encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def picture(number: int) -> bytes:
    """A PNG of which no two numbers have the same."""
    buffer = io.BytesIO()
    values = np.full((4, 4, 3), [number % 256, number // 256 % 256, number // 65536], np.uint8)
    PIL.Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def tars(folder: Path, count: int, samples: int) -> list[Path]:
    """Tars of so many samples, each with a picture and a text of its own."""
    paths = []
    for number in range(count):
        files: dict[str, bytes] = {}
        for sample in range(samples):
            own = number * samples + sample
            files[f"{own:06}.png"] = picture(own)
            files[f"{own:06}.txt"] = f"text {own}".encode()
        paths.append(shard(folder / f"{number:05}.tar", files))
    return paths


def rows(folder: Path) -> list[dict[str, Any]]:
    """All rows in a folder, in the order of the files' names."""
    files = sorted(folder.rglob("*.parquet"))
    return [row for file in files for row in pyarrow.parquet.read_table(file).to_pylist()]


def start(source: Path, output: Path, index: int, count: int) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(ROOT), str(Path(discffusion.__file__).parents[1])])
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.python.shards.made_up",
            str(source),
            str(output),
            str(index),
            str(count),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def main() -> None:
    source, output, index, count = sys.argv[1:]
    found = score_shards(
        source,
        output,
        ByDigest(seconds=0.01),
        shard_index=int(index),
        num_shards=int(count),
        progress=lambda done, total: print(done, total, flush=True),
    )
    print(json.dumps(found.to_dict()), flush=True)


if __name__ == "__main__":
    main()
