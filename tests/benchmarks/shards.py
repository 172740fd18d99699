"""Many shards on Ray Data, with actors that are killed: every row once, the rows of one process, and how fast.

    python -m tests.benchmarks.shards --pairs 20000 --shards 200 --actors 2 --kills 5

Scenes of `shapes` in tars, scored by the pocket model at one timestep of its first layer. Each process has one thread:
one process as the command line starts it, one actor, several actors, and several of which one is killed by SIGKILL now
and then. Rates are of all rows in the whole time, with the start of actors and the loading of models.

``--only one several --folder KEPT`` does a part of it; all parts that the folder holds are compared at the end.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded; actors inherit it

import pyarrow.parquet

from discffusion import Scorer, load_dataset, score_shards

PARTS = ("alone", "one", "several", "killed")
CONFIG: dict[str, Any] = {"noise_levels": [0.5], "layers": ["down.0.0"], "device": "cpu"}


class Told(Scorer):
    """Says which process it is in, so that it can be killed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(**CONFIG)
        (folder / str(os.getpid())).touch()


def make(folder: Path, pairs: int, shards: int) -> None:
    folder.mkdir()
    items = load_dataset("shapes", split="test", n=-(-pairs // 2), seed=11)
    scenes = ((image, text) for item in items for image, text in zip(item.images, item.texts, strict=True))
    for shard in range(shards):
        with tarfile.open(folder / f"{shard:05}.tar", "w") as archive:
            for number in range(shard * pairs // shards, (shard + 1) * pairs // shards):
                image, text = next(scenes)
                buffer = io.BytesIO()
                image.save(buffer, "PNG")
                for kind, data in (("png", buffer.getvalue()), ("txt", text.encode())):
                    info = tarfile.TarInfo(f"{number:09}.{kind}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))


def rows(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.glob("*.parquet"))
    return [row for file in files for row in pyarrow.parquet.read_table(file).to_pylist()]


def alone(source: Path, output: Path) -> None:
    """This process, as the command line starts it."""
    found = score_shards(
        source, output, lambda: Scorer(**CONFIG), shard_index=0, num_shards=1, progress=False
    )
    print(json.dumps(found.to_dict()))


def on_ray(source: Path, output: Path, actors: int, kills: int, every: float, seed: int) -> dict[str, Any]:
    """What came out, and how many actors were killed."""
    with tempfile.TemporaryDirectory() as folder:
        killed: list[int] = []
        ended = threading.Event()

        def kill() -> None:
            draw = random.Random(seed)
            while len(killed) < kills and not ended.wait(draw.uniform(0.5, 1.5) * every):
                alive = [path for path in Path(folder).iterdir() if path.name not in map(str, killed)]
                if alive:
                    victim = int(draw.choice(alive).name)
                    os.kill(victim, signal.SIGKILL)
                    killed.append(victim)

        thread = threading.Thread(target=kill, daemon=True)
        thread.start()
        found = score_shards(
            source, output, lambda: Told(Path(folder)), launcher="ray", actors=actors, progress=False
        )
        ended.set()
        thread.join()
        return {**found.to_dict(), "killed": len(killed)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--shards", type=int, default=200)
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument(
        "--every", type=float, default=12.0, help="seconds from one kill to the next, on average"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to do")
    parser.add_argument("--folder", type=Path, help="keeps shards and rows, for more parts")
    parser.add_argument("--alone", nargs=2, type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone is not None:
        alone(*given.alone)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(given, given.folder or Path(folder))


def measure(given: argparse.Namespace, place: Path) -> None:
    if not (place / "in").exists():
        start = time.perf_counter()
        make(place / "in", given.pairs, given.shards)
        print(f"{given.pairs} pairs in {given.shards} shards, made in {time.perf_counter() - start:.0f} s")
    if "alone" in given.only:
        command = [sys.executable, "-m", "tests.benchmarks.shards", "--alone"]
        run = subprocess.run(
            [*command, str(place / "in"), str(place / "alone")], check=True, capture_output=True, text=True
        )
        show("one process", json.loads(run.stdout.splitlines()[-1]))
    if set(given.only) - {"alone"}:
        import ray

        ray.init(num_cpus=max(given.actors, 2), include_dashboard=False, logging_level="error")
        actors = {"one": 1, "several": given.actors, "killed": given.actors}
        rates = {}
        for name in (name for name in actors if name in given.only):
            kills = given.kills if name == "killed" else 0
            found = on_ray(place / "in", place / name, actors[name], kills, given.every, given.seed)
            show(f"{name}: {actors[name]} on Ray, {found['killed']} killed", found)
            rates[name] = found["rows_per_second"]
        ray.shutdown()
        if rates.keys() >= {"one", "several"}:
            rate = rates["several"] / rates["one"]
            print(f"  {rate:.2f} times one actor, {rate / given.actors:.0%} of linear", flush=True)
    whole = rows(place / "alone")
    for name in ("one", "several", "killed"):
        if whole and (place / name).exists():
            found = rows(place / name)
            names = {(row["shard"], row["member"], row["text_index"]) for row in found}
            once = len(names) == len(found) == given.pairs
            print(f"{name}: every row once: {once}; equal to the rows of one process: {found == whole}")
            assert once and found == whole


def show(name: str, found: dict[str, Any]) -> None:
    failures = sum(found["failures"].values())
    print(
        f"{name}: {found['rows']} rows ({failures} without a score), {found['left']} shards left, "
        f"{found['seconds']:.1f} s, {found['rows_per_second']:.1f} rows a second",
        flush=True,
    )


if __name__ == "__main__":
    main()
