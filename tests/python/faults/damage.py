"""Inputs that are damaged or gone: what is told of them, and what becomes of the rest."""

from __future__ import annotations

import random
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.python.shards.made_up import ByDigest, rows, tars

from discffusion import ImageError, Trainer, evaluate, load_dataset, score_shards


def spoil(data: bytes, draw: random.Random) -> bytes:
    """Cut off, with zeros, noise or a single bit in it that is not as it was."""
    place = draw.randrange(len(data))
    kind = draw.randrange(4)
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :]
    filler = bytes(700) if kind == 2 else draw.randbytes(700)
    return (data[:place] + filler + data[place + 700 :])[: len(data)]


def corrupt_shards(times: int, draw: random.Random, place: Path) -> Counter[str]:
    """One of three shards is spoilt: the others have their rows, and so has it when it is whole again."""
    shards = tars(place / "in", 3, 4)
    score_shards(place / "in", place / "whole", ByDigest())
    expected = rows(place / "whole")
    how: Counter[str] = Counter()
    for number in range(times):
        victim, output = draw.choice(shards), place / str(number)
        data = victim.read_bytes()
        victim.write_bytes(spoil(data, draw))
        found = score_shards(place / "in", output, ByDigest())
        got = rows(output)
        others = [row for row in expected if row["shard"] != victim.name]
        assert [row for row in got if row["shard"] != victim.name] == others
        own = [row for row in got if row["shard"] == victim.name]
        if found.failed:
            assert list(found.failed) == [victim.name] and not own
            how["told as unreadable"] += 1
        elif any(row["error"] for row in own):
            how["rows with an error"] += 1
        elif own == [row for row in expected if row["shard"] == victim.name]:
            how["no row is concerned"] += 1
        else:
            how["rows of what is there"] += 1
        victim.write_bytes(data)
        (output / victim.with_suffix(".parquet").name).unlink(missing_ok=True)
        score_shards(place / "in", output, ByDigest())
        assert rows(output) == expected and not list(output.glob("*.failed.json"))
    return how


def vanished_images(times: int, draw: random.Random, place: Path, scorer: Any) -> None:
    """An image is listed and gone when it is its turn, in an evaluation and in a training; later it is there again."""
    place.mkdir(parents=True, exist_ok=True)
    lines = ["image,text,negative"]
    for number, item in enumerate(load_dataset("shapes", split="eval", n=4)):
        item.images[0].save(place / f"{number}.png")
        lines.append(f"{number}.png,{item.texts[0]},{item.texts[1]}")
    (place / "table.csv").write_text("\n".join(lines) + "\n")
    items = load_dataset(
        "table", root=place / "table.csv", image="image", text="text", negative_texts="negative"
    )
    whole = evaluate(scorer, items, progress=False)
    deltas = _trained(scorer, items, place / "whole").deltas.digest()
    for number in range(times):
        victim, aside = place / f"{draw.randrange(4)}.png", place / "aside"
        again = partial(
            evaluate, scorer, items, output=place / f"{number}.jsonl", batch_items=1, progress=False
        )
        train = partial(_trained, scorer, items, place / f"run {number}")
        victim.rename(aside)
        for work in (again, train):
            with pytest.raises(ImageError, match=victim.name):
                work()
        aside.rename(victim)
        assert again() == whole and train().deltas.digest() == deltas


def _trained(scorer: Any, items: Any, folder: Path) -> Trainer:
    trainer = Trainer(scorer, rank=2)
    trainer.fit(items, epochs=1, batch_size=1, checkpoint_dir=folder, progress=False)
    return trainer
