"""The two sides of the comparison, built from the same arguments."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from discffusion import ScoreConfig, _native
from discffusion.data import MatchItem
from discffusion.images import prepare

# `cpu` is of use with one thread alone, on a machine that is busy with other things.
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class CoreLoop:
    """The library's own trainer."""

    def __init__(self, args: argparse.Namespace) -> None:
        core = _native.core()
        self.config, self.clock = score_config(args), CLOCKS[args.clock]
        self.scorer = core.Scorer.load(str(args.model), None, "cpu", "float32")
        self.trainer = core.Trainer.new(self.scorer, options(args), self.config)
        self.items: list[tuple[list[Any], list[str]]] = []

    def add(self, item: MatchItem) -> None:
        self.items.append(([prepare(image) for image in item.images], list(item.texts)))
        self.trainer.add(len(self.items) - 1, *self.items[-1], item.match)

    def step(self, indices: list[int]) -> dict[str, Any]:
        # The schedule is constant, so that the number of steps is of no consequence.
        said: dict[str, Any] = json.loads(self.trainer.step(indices, 10**6))
        return said

    def forward(self, indices: list[int], timestep: int, noise: np.ndarray) -> float:
        """Seconds that the network takes for the scores of the items' pairs, all at one timestep with one noise
        `[C, h, w]`: all but the encoding."""
        config = self.config.replace(timesteps=[timestep])
        images, texts, pairs = [], [], []
        for own_images, own_texts in (self.items[index] for index in indices):
            at = np.argwhere(np.ones((len(own_images), len(own_texts))))
            pairs.append(at + np.array([len(images), len(texts)]))
            images += own_images
            texts += own_texts
        asked = images, texts, np.concatenate(pairs).astype(np.int64), config, noise[None], None
        whole = clocked(self.clock, lambda: self.scorer.score_pairs(*asked))
        of_images = clocked(self.clock, lambda: self.scorer.encode_images(images, config))
        return whole - of_images - clocked(self.clock, lambda: self.scorer.encode_texts(texts, config))


def torch_loop(args: argparse.Namespace) -> Any:
    """The plain loop; imported here, so that the core's process is free of torch and diffusers."""
    import torch
    from tests.benchmarks.torch_loop import TorchLoop

    torch.set_num_threads(args.threads)
    return TorchLoop(args.model, score_config(args).to_dict(), options(args))


def options(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "loss": "triplet",
        "margin": args.margin,
        "temperature": args.temperature,
        "learning_rate": 1e-3,
        "weight_decay": 1e-2,
        "schedule": "constant",
    }


def score_config(args: argparse.Namespace) -> ScoreConfig:
    given = {name: getattr(args, name) for name in ("map", "pooling", "lambda_", "layers")}
    given = {name: value for name, value in given.items() if value is not None}
    return ScoreConfig(**given)


def clocked(clock: Callable[[], float], call: Callable[[], Any]) -> float:
    start = clock()
    call()
    return clock() - start
