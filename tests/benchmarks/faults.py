"""What happens under faults, counted: the rows of the table in ``docs/faults.md``.

    python -m tests.benchmarks.faults --times 20 --long 1500 --scores 10000 --only ctrl-c kill

Each fault strikes each stage so many times at random; afterwards the same call is made again, and must give what it
gives undisturbed.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.python.faults.damage import corrupt_shards, vanished_images
from tests.python.faults.stages import LARGE, scorer
from tests.python.faults.start import lines, struck
from tests.python.faults.test_faults import FAULTS
from tests.python.refusing import build

Row = tuple[str, int, str]
STRUCK = {**{fault: stages for fault, (stages, _) in FAULTS.items()}, "memory": list(LARGE)}


def told(how: Counter[str]) -> str:
    return ", ".join(f"{count} × {name}" for name, count in how.most_common())


def of_fault(fault: str, given: argparse.Namespace, folder: Path) -> Iterator[Row]:
    for one in struck(fault, STRUCK[fault], given.times, given.seed, folder):
        after = "the same afterwards" if one["wrong"] == 0 else f"{one['wrong']} × NOT the same afterwards"
        late = f"; noticed within {one['slowest']:.2f} s" if one["slowest"] else ""
        yield f"{fault}: {one['stage']}", one["times"], f"{told(Counter(one['how']))}{late}; {after}"


def corrupt(given: argparse.Namespace, folder: Path) -> Iterator[Row]:
    times = 25 * given.times
    yield "a corrupt shard", times, told(corrupt_shards(times, random.Random(given.seed), folder))


def vanished(given: argparse.Namespace, folder: Path) -> Iterator[Row]:
    with scorer() as own:
        vanished_images(given.times, random.Random(given.seed), folder, own)
    yield "an image vanishes", 2 * given.times, "ImageError that names it; the same afterwards"


def long_run(given: argparse.Namespace, folder: Path) -> Iterator[Row]:
    (found,) = lines("long_run", str(given.long), str(given.seed), str(folder), **build(folder))
    rest = {name: value for name, value in found.items() if name != "how"}
    how = Counter(found["how"])
    yield "a long run", how.total(), f"{told(how)}; {rest}"


def growth(given: argparse.Namespace, _: Path) -> Iterator[Row]:
    (resident,) = lines("growth", str(given.scores))
    grown = (resident[-1] - resident[1]) / 2**20
    yield (
        "scores",
        given.scores,
        f"{grown:+.1f} MiB from the second tenth to the last, at {resident[1] / 2**20:.0f}",
    )


def main() -> None:
    rows: dict[str, Callable[[argparse.Namespace, Path], Iterator[Row]]] = {
        **{fault: (lambda given, folder, fault=fault: of_fault(fault, given, folder)) for fault in STRUCK},
        "corrupt": corrupt,
        "vanished": vanished,
        "long": long_run,
        "growth": growth,
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20, help="strikes a stage")
    parser.add_argument("--long", type=int, default=1500, help="items of the long run")
    parser.add_argument("--scores", type=int, default=10_000, help="scores that memory is watched over")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=list(rows), default=list(rows))
    given = parser.parse_args()
    for name in given.only:
        with tempfile.TemporaryDirectory() as folder:
            for what, times, happened in rows[name](given, Path(folder)):
                print(f"| {what} | {times} | {happened} |", flush=True)


if __name__ == "__main__":
    main()
