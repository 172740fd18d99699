"""Time and memory of a training step: the core against a plain loop in PyTorch and diffusers.

`python -m tests.benchmarks.train_step [--model FOLDER] [--map logits --layers all] [--json]`. Both train dense deltas
on the keys and values of all layers, on the same items, at the same timesteps with the same noise, and take turns in
one process with the same number of threads. Their losses and deltas are compared, so that the times are of the same
work. Memory is measured in a process for each.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tests.benchmarks import memory
from tests.benchmarks.sides import CLOCKS, CoreLoop, clocked, score_config, torch_loop

from discffusion.data import MatchItem, load_dataset
from discffusion.hub import resolve


def compare_times(args: argparse.Namespace, items: list[MatchItem]) -> dict[str, Any]:
    """Interleaved steps; the one that goes first changes from step to step."""
    loop, core = torch_loop(args), CoreLoop(args)
    for item in items:
        core.add(item)
        loop.add(item)
    seconds: dict[str, list[float]] = {"core": [], "torch": [], "forward": []}
    steps, apart = [], []
    for repeat in range(args.warm_up + args.repeats):
        indices = [(repeat * args.batch_size + n) % len(items) for n in range(args.batch_size)]
        # Asked while no clock runs: it changes nothing, and the next step draws the same.
        drawn = core.trainer.gradients(indices)
        said: dict[str, Any] = {}
        turns = {
            "core": lambda at=indices, to=said: to.update(core.step(at)),
            "torch": lambda at=indices, to=said, by=drawn: to.update(
                theirs=loop.step(at, by["timesteps"], by["noise"])
            ),
        }
        for name in list(turns)[:: 1 if repeat % 2 else -1]:
            seconds[name].append(clocked(core.clock, turns[name]))
        seconds["forward"].append(core.forward(indices, int(drawn["timesteps"][0, 0]), drawn["noise"][0, 0]))
        steps.append(said)
        apart.append(abs(said["loss"] - said["theirs"]))
    return {**_summary(seconds, steps, args.warm_up), **_difference(core, loop, apart)}


def _summary(seconds: dict[str, list[float]], steps: list[dict[str, Any]], warm_up: int) -> dict[str, Any]:
    def over(reduce: Any) -> dict[str, float]:
        each = {name: float(reduce(values[warm_up:])) for name, values in seconds.items()}
        ratios = {f"core_to_{other}": each["core"] / each[other] for other in ("torch", "forward")}
        return {**each, **ratios}

    def mean(name: str) -> float:
        return float(np.mean([said[name] for said in steps[warm_up:]]))

    return {
        "median": over(np.median),
        "mean": over(np.mean),
        **{name: mean(name) for name in ("rows", "backward_rows", "active", "loss")},
    }


def _difference(core: CoreLoop, loop: Any, losses: list[float]) -> dict[str, float]:
    """How far the two are apart when all steps are done; rounding is all there should be."""
    ours, theirs = core.trainer.deltas().arrays(), loop.deltas()
    apart = sum(float(np.square(ours[name] - theirs[name]).sum()) for name in theirs)
    size = sum(float(np.square(array).sum()) for array in theirs.values())
    return {"losses_apart": max(losses), "deltas_apart": (apart / size) ** 0.5}


def table(found: dict[str, Any]) -> str:
    lines = []
    for name in ("median", "mean"):
        at = found["time"][name]
        lines.append(
            f"{name:>6} step: core {at['core'] * 1e3:.1f} ms, torch {at['torch'] * 1e3:.1f} ms, ratio "
            f"{at['core_to_torch']:.2f}; forward of the same pairs {at['forward'] * 1e3:.1f} ms, step / forward "
            f"{at['core_to_forward']:.2f}"
        )
    time = found["time"]
    lines.append(
        f"rows {time['rows']:.2f}, of them backward {time['backward_rows']:.2f} a step; active {time['active']:.0%}"
    )
    lines.append(f"apart: losses {time['losses_apart']:.1e}, deltas {time['deltas_apart']:.1e} relative")
    of = found["memory"]
    for name in ("loaded", "steps", "peak"):
        core, torch = of["core"][name] / 2**20, of["torch"][name] / 2**20
        lines.append(
            f"memory, {name:>6}: core {core:.0f} MiB, torch {torch:.0f} MiB, ratio {core / torch:.2f}"
        )
    return "\n".join(lines)


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="train_step", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", help="a folder in the diffusers layout; default: the pocket model")
    parser.add_argument("--map", choices=["probs", "logits", "cosine"])
    parser.add_argument("--pooling", choices=["lse", "max_row", "max_col", "mean"])
    parser.add_argument("--lambda", dest="lambda_", type=float)
    parser.add_argument("--layers", help="as in ScoreConfig")
    parser.add_argument("--margin", type=float, default=0.2)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--items", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=1, help="items a step")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--warm-up", type=int, default=10)
    parser.add_argument("--memory-steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--memory-of", choices=memory.SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    args.model = Path(resolve(args.model)[0])
    return args


def main(argv: list[str]) -> None:
    args = arguments(argv)
    items = list(load_dataset("shapes", split="train", n=args.items))
    if args.memory_of:
        print(json.dumps(memory.measure(args.memory_of, args, items)))
        return
    found = {
        "model": str(args.model),
        "config": json.loads(score_config(args)),
        "margin": args.margin,
        "temperature": args.temperature,
        "threads": args.threads,
        "clock": args.clock,
        "batch_size": args.batch_size,
        "memory": memory.compare(args, argv),
        "time": compare_times(args, items),
    }
    print(json.dumps(found, indent=2) if args.json else table(found))


if __name__ == "__main__":
    main(sys.argv[1:])
