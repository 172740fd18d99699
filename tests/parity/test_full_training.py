"""A training step of dense deltas on Stable Diffusion 2.1-base at its real size, in float32 on the CPU.

The step runs in a process of its own that holds neither diffusers nor torch's Python side, so that what the kernel
counts is the core's.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fixtures.make_checkpoint import write_checkpoint

import discffusion

pytestmark = pytest.mark.slow

LIMIT_GIB = 24
# Two images of noise and a text for each: one item of two positives, 512 pixels, all 32 projections trained.
STEP = """
import json, resource, sys, time
from pathlib import Path
import numpy as np
from discffusion import _native
core = _native.core()
folder, recompute = sys.argv[1], sys.argv[2] == "True"
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
scorer = core.Scorer.load(folder, None, "cpu", "float32")
loading = peak()
Path("/proc/self/clear_refs").write_text("5")  # the mark is back at what is resident now
resident = peak()
options = {"margin": 5.0, "temperature": 1.0, "learning_rate": 1e-2, "recompute": recompute}
score = {"method": "attention", "map": "logits", "layers": "all", "heads": "mean", "timesteps": [501]}
config = core.ScoreConfig(**score)
trainer = core.Trainer.new(scorer, options, config)
draw = np.random.default_rng(0)
images = [draw.integers(0, 256, (512, 512, 3), dtype=np.uint8) for _ in range(2)]
trainer.add(0, images, ["a black cat on a table", "two boats on a river"], np.eye(2, dtype=bool))
start = time.perf_counter()
step = json.loads(trainer.step([0], 1))
seconds = time.perf_counter() - start
arrays = trainer.deltas().arrays()
print(json.dumps({
    "step": step,
    "seconds": seconds,
    "loading": loading,
    "resident": resident,
    "stepping": peak(),
    "parameters": sum(array.size for array in arrays.values()),
    "changed": sorted(name for name, array in arrays.items() if array.any()),
    "names": sorted(arrays),
    "finite": all(bool(np.isfinite(array).all()) for array in arrays.values()),
    "foreign": [name for name in ("torch", "diffusers", "transformers") if name in sys.modules],
}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The checkpoint, 5 GB, gone when the tests are."""
    folder = tmp_path_factory.mktemp("full")
    write_checkpoint(folder, "sd21", "full")
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("recompute", [False, True])
def test_step_fits_in_24_gib(folder: Path, recompute: bool, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-c", STEP, str(folder), str(recompute)]
    env = {**os.environ, "PYTHONPATH": str(Path(discffusion.__file__).parents[1])}
    done = subprocess.run(command, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    gib = {name: said[name] / 2**30 for name in ("loading", "resident", "stepping")}
    with capsys.disabled():
        print(
            f"\nSD 2.1 dense step, recompute={recompute}: {said['seconds']:.0f} s, GiB: loading {gib['loading']:.2f}, "
            f"loaded {gib['resident']:.2f}, at the step's height {gib['stepping']:.2f}; {said['step']}"
        )
    assert said["foreign"] == []
    assert max(gib.values()) < LIMIT_GIB
    assert said["finite"] and 0 < said["step"]["loss"] < 1e3
    assert said["step"]["active"] == 1
    # 16 layers, W_k and W_v; the values of the last one are behind the last map and do not move.
    assert said["parameters"] == 2 * 1024 * (5 * 320 + 5 * 640 + 6 * 1280)
    last = "up_blocks.3.attentions.2.transformer_blocks.0.attn2.to_v.delta"
    assert set(said["names"]) - set(said["changed"]) == {last}
