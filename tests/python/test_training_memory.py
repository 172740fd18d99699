"""Training in the memory that there is: a batch goes through in parts, smaller ones where memory runs out."""

from __future__ import annotations

import json

from tests.python.processes import ROOT
from tests.python.run_python import run_python

BEGIN = """
import json, logging, resource
import numpy as np
from tests.python.refusing import refused
from discffusion import Scorer, Trainer, load_dataset

items = load_dataset("shapes", n=48)
items = [items[i] for i in range(48)]
scorer = Scorer(config="attention", noise_levels=[0.5])

def step(scorer, n, **options):
    trainer = Trainer(scorer, temperature=0.05, margin=5.0, **options)
    row = trainer.fit(items[:n], batch_size=n, progress=False)[-1]
    return row, trainer.deltas
"""

REFUSED = """
said = []
class Heard(logging.Handler):
    def emit(self, record):
        said.append(record.getMessage())
logging.getLogger("discffusion").addHandler(Heard())
expected, _ = step(scorer.with_config(batch_size=8), 48)
with refused(4 << 20):
    found, _ = step(scorer.with_config(batch_size=1024), 48)
print(json.dumps({"expected": expected, "found": found, "said": said}))
"""

PEAK = """
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
scorer = scorer.with_config(batch_size=4)
rows, peaks = [], []
for n in (4, 48):
    rows.append(step(scorer, n)[0]["rows"])
    peaks.append(peak())
long = Trainer(scorer, temperature=0.05, margin=5.0, timesteps_per_step=24)
rows.append(long.fit(items[:1], progress=False)[-1]["rows"])
peaks.append(peak())
print(json.dumps({"rows": rows, "peaks": peaks}))
"""


def test_a_step_that_does_not_fit_goes_on_with_less(refusing: dict[str, str]) -> None:
    done = run_python(BEGIN + REFUSED, ROOT, **refusing)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert any("memory ran out in training; going on with" in line for line in told["said"]), told["said"]
    for name in ("loss", "gradient_norm"):
        assert abs(told["found"][name] / told["expected"][name] - 1) < 1e-5, name
    assert told["found"]["rows"] == told["expected"]["rows"]


def test_memory_does_not_grow_with_a_step() -> None:
    done = run_python(BEGIN + PEAK, ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    few, many, long = told["rows"]
    assert many == 12 * few and long > 8 * 4
    assert max(told["peaks"]) - told["peaks"][0] < 100
