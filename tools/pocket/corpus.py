"""The training set: pictures of scenes of the ``train`` split, each with the captions that are true of it."""

from __future__ import annotations

import json
import multiprocessing
import random
from pathlib import Path
from typing import NamedTuple

import numpy as np

from discffusion.data.shapes.captions import answer, both, caption, colourless
from discffusion.data.shapes.choices import question
from discffusion.data.shapes.randomness import generator
from discffusion.data.shapes.render import render
from discffusion.data.shapes.sampling import draw_plan, draw_single, split_of
from discffusion.data.shapes.scene import Scene
from tools.pocket.files import write_atomically

_SINGLE = 0.08  # share of the pictures that show a lone shape
#: how often each kind of caption is used for a picture of two shapes, and of one
KINDS: tuple[str, ...] = ("full", "both", "colourless", "question")
WEIGHTS: tuple[float, ...] = (0.84, 0.06, 0.05, 0.05)


class Corpus(NamedTuple):
    """Attributes:
    pictures: uint8 ``[n, 32, 32, 3]``.
    captions: the distinct captions; the first is empty.
    choices: int32 ``[n, len(KINDS)]``, the caption of each kind for each picture.
    """

    pictures: np.ndarray
    captions: list[str]
    choices: np.ndarray


def load_corpus(folder: Path, n: int, seed: int = 0) -> Corpus:
    """The corpus of ``n`` pictures; drawn once and kept in ``folder``."""
    arrays, words = folder / f"corpus-{n}-{seed}.npz", folder / f"corpus-{n}-{seed}.json"
    if not (arrays.exists() and words.exists()):
        folder.mkdir(parents=True, exist_ok=True)
        corpus = _draw(n, seed)
        write_atomically(words, lambda path: path.write_text(json.dumps(corpus.captions)))
        write_atomically(arrays, lambda path: _save(path, corpus))
    stored = np.load(arrays)
    return Corpus(stored["pictures"], json.loads(words.read_text()), stored["choices"])


def _save(path: Path, corpus: Corpus) -> None:
    with path.open("wb") as file:
        np.savez(file, pictures=corpus.pictures, choices=corpus.choices)


def _draw(n: int, seed: int) -> Corpus:
    with multiprocessing.Pool(2) as pool:
        drawn = pool.starmap(_draw_one, ((seed, i) for i in range(n)), chunksize=500)
    index: dict[str, int] = {"": 0}
    choices = np.array(
        [[index.setdefault(text, len(index)) for text in texts] for _, texts in drawn], dtype=np.int32
    )
    return Corpus(np.stack([picture for picture, _ in drawn]), list(index), choices)


def _draw_one(seed: int, i: int) -> tuple[np.ndarray, list[str]]:
    rng = generator("corpus", seed, i)
    while True:
        scene, texts = _draw_scene(rng)
        if split_of(scene) == "train":
            return np.asarray(render(scene)), texts


def _draw_scene(rng: random.Random) -> tuple[Scene, list[str]]:
    if rng.random() < _SINGLE:
        scene = draw_single(rng)
        return scene, [caption(scene)] * len(KINDS)
    plan = draw_plan(rng)
    scene = plan.scene()
    asked, right, _ = question(rng, plan)
    reply = answer(asked, right) if right else caption(scene)
    return scene, [caption(scene), both(scene), colourless(scene), reply]
