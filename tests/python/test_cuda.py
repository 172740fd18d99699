"""On a CUDA device: the same scores, pictures and training as on the CPU, by kernels that were found right there."""

from __future__ import annotations

import itertools
import json
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from discffusion import ScoreConfig, Scorer, Trainer, load_dataset

pytestmark = pytest.mark.gpu

TEXTS = ["a red circle left of a blue square", "two dogs", "a photograph of an old green bus"]
POOLED = [
    {"map": kind, "heads": heads, "tokens": tokens, "pooling": "lse", "lambda_": sharpness, "layers": "all"}
    for (kind, sharpness), heads, tokens in itertools.product(
        (("logits", 1.0), ("probs", 10.0), ("cosine", 10.0)), ("mean", "attributed", [0]), ("all", "content")
    )
]
CONFIGS: list[dict[str, Any]] = [
    *POOLED,
    {"map": "probs", "pooling": "mean", "tokens": "content", "layers": "all"},  # formed, not digested
    {"map": "logits", "pooling": "lse", "layers": "down", "tokens": "all"},  # ends at a map
    {"method": "denoising"},
    {"method": "combined", "map": "logits", "pooling": "lse", "layers": "all"},
]
# How far scores may be apart, in terms of their mean size; the denoising score is a small difference of large numbers.
TOLERANCES = {"float32": (1e-5, 2e-3), "float16": (1e-3, 2e-2), "bfloat16": (8e-3, 1e-1)}


@pytest.fixture(scope="session", params=["sd15", "sd21", "pocket"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    if request.param == "pocket":
        return None
    pytest.importorskip("diffusers")
    from tests.fixtures.make_checkpoint import write_checkpoint

    return write_checkpoint(tmp_path_factory.mktemp(request.param) / "model", request.param, "tiny")


def pictures(count: int, side: int) -> list[NDArray[np.uint8]]:
    draw = np.random.default_rng(0)
    blocks = draw.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return list(blocks.repeat(side // 8, 1).repeat(side // 8, 2))


def matrices(scorer: Scorer) -> list[NDArray[np.float64]]:
    images = pictures(3, 64)
    made = []
    for config in CONFIGS:
        own = scorer.with_config(ScoreConfig(steps=3, **config))
        made.append(own.matrix(images, TEXTS, progress=False))
    return made


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_scores_are_those_of_the_cpu(
    model: Path | None, dtype: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="discffusion"):
        found = matrices(Scorer(model, device="cuda", dtype=dtype))
    expected = matrices(Scorer(model, device="cpu"))
    # Eight bits are few: what they cost is asked of the CPU.
    same = matrices(Scorer(model, device="cpu", dtype="bfloat16")) if dtype == "bfloat16" else expected
    for config, ours, theirs, plain in zip(CONFIGS, found, same, expected, strict=True):
        off, usual = (np.abs(scores - plain).max() / np.abs(plain).mean() for scores in (ours, theirs))
        limit = TOLERANCES[dtype][config.get("method") == "denoising"]
        assert off < max(limit, 2 * usual), config
    assert not caplog.records, "a kernel was found wrong on this device"


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_scores_do_not_depend_on_company(model: Path | None, dtype: str) -> None:
    scorer = Scorer(model, device="cuda", dtype=dtype, map="logits", layers="all", steps=4)
    images = pictures(4, 64)
    whole = scorer.matrix(images, TEXTS, progress=False)
    for size in (1, 5):
        apart = scorer.with_config(batch_size=size).matrix(images, TEXTS, progress=False)
        assert np.abs(apart - whole).max() < TOLERANCES[dtype][0] * np.abs(whole).mean()
    assert np.array_equal(whole, scorer.matrix(images, TEXTS, progress=False)), "equal requests, equal scores"
    alone = [scorer.score(images[2], text) for text in TEXTS]
    assert np.abs(alone - whole[2]).max() < TOLERANCES[dtype][0] * np.abs(whole).mean()


GRAPHS = """
import json, logging, sys
import numpy as np
from discffusion import ScoreConfig, Scorer

logging.basicConfig(stream=sys.stderr, format="%(message)s")
images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
texts = ["a red circle left of a blue square", "two dogs", "an old green bus in front of a house"]
made = []
for config in json.loads(sys.argv[2]):
    scorer = Scorer(sys.argv[1] or None, device="cuda", dtype="float16", steps=4, **config)
    made += [scorer.with_config(seed=i % 2).score(images[i % 5], texts[i % 3]) for i in range(10)]
    made += [float(x) for x in np.ravel(scorer.matrix(images, texts, progress=False))]
print(json.dumps(made))
"""


def test_recorded_graphs_give_the_same_scores(model: Path | None) -> None:
    configs = json.dumps(CONFIGS)

    def scores(switch: str) -> tuple[NDArray[np.float64], str]:
        line = [sys.executable, "-c", GRAPHS, str(model or ""), configs]
        env = {**os.environ, "DISCFFUSION_GRAPHS": switch}
        done = subprocess.run(line, env=env, capture_output=True, text=True, check=True)
        return np.array(json.loads(done.stdout)), done.stderr

    (recorded, said), (plain, _) = scores("1"), scores("0")
    assert "recorded graph" not in said, "a record was refused"
    np.testing.assert_allclose(recorded, plain, rtol=1e-3, atol=1e-3 * np.abs(plain).mean())


def test_memory_that_runs_out_makes_batches_smaller() -> None:
    import torch

    scorer = Scorer(device="cuda", dtype="float16", map="probs", layers="all", steps=10)
    images, texts = pictures(16, 64), [f"{number} red circles" for number in range(16)]
    expected = scorer.with_config(batch_size=64).matrix(images, texts, progress=False)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + (128 << 20)) / total)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = scorer.with_config(batch_size=2560).matrix(images, texts, progress=False)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert any("memory ran out" in str(one.message) for one in said)
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).mean()
    again = scorer.with_config(batch_size=64).matrix(images, texts, progress=False)
    assert np.array_equal(again, expected)


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_training_goes_the_same_way(dtype: str) -> None:
    items = list(load_dataset("shapes", split="train", subset="subject", n=8, seed=0))

    def losses(device: str, dtype: str) -> list[float]:
        history = Trainer(Scorer(device=device, dtype=dtype)).fit(items, epochs=1, progress=False)
        return [float(row["loss"]) for row in history]

    assert losses("cuda", dtype) == pytest.approx(losses("cpu", "float32"), abs=10 * TOLERANCES[dtype][0])


def test_pictures_are_those_of_the_cpu() -> None:
    def picture(device: str, dtype: str) -> NDArray[np.float64]:
        made = Scorer(device=device, dtype=dtype).generate(TEXTS[0], steps=10, seed=1)
        return np.asarray(made, dtype=np.float64)

    expected = picture("cpu", "float32")
    # Of 255; half precision may tip a number over an edge of rounding here and there.
    assert np.abs(picture("cuda", "float32") - expected).mean() < 0.1
    assert np.abs(picture("cuda", "float16") - expected).mean() < 0.5
