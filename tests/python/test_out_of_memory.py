"""Memory that runs out makes batches smaller; scores stay."""

from __future__ import annotations

import json
import sys

import pytest
from tests.python.run_python import run_python

SCRIPT = """
import os
os.environ["OMP_NUM_THREADS"] = "1"  # stacks of threads count too
import json, resource, warnings
import numpy as np
from discffusion import Scorer, load_dataset

scorer = Scorer(config="paper", steps=4)
items = load_dataset("shapes", n=16)
images, texts = [item.images[0] for item in items], [text for item in items for text in item.texts]
expected = scorer.with_config(batch_size=8).matrix(images, texts, progress=False)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
used = int(status["VmSize"].split()[0]) * 1024
before = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20), before[1]))
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    found = scorer.with_config(batch_size=1024).matrix(images, texts, progress=False)
resource.setrlimit(resource.RLIMIT_AS, before)
again = scorer.with_config(batch_size=8).score(images[0], texts[0])
off = float(np.abs(found - expected).max() / np.abs(expected).max())
print(json.dumps({"said": [str(one.message) for one in said], "off": off, "again": again - expected[0, 0]}))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the address space by Linux's means")
def test_a_batch_that_does_not_fit_is_halved() -> None:
    done = run_python(SCRIPT)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert 1 <= len(told["said"]) <= 9
    assert all("memory ran out; going on with a batch_size of" in line for line in told["said"])
    assert told["off"] < 1e-6 and abs(told["again"]) < 1e-6
