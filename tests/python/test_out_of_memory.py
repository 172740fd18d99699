"""Memory that runs out makes batches smaller; scores stay."""

from __future__ import annotations

import json

from tests.python.processes import ROOT
from tests.python.run_python import run_python

SCRIPT = """
import json, warnings
import numpy as np
from tests.python.refusing import refused
from discffusion import Scorer, load_dataset

scorer = Scorer(config="paper", steps=4)
items = load_dataset("shapes", n=16)
images, texts = [item.images[0] for item in items], [text for item in items for text in item.texts]
expected = scorer.with_config(batch_size=8).matrix(images, texts, progress=False)
with warnings.catch_warnings(record=True) as said, refused(24 << 20):
    warnings.simplefilter("always")
    found = scorer.with_config(batch_size=1024).matrix(images, texts, progress=False)
again = scorer.with_config(batch_size=8).score(images[0], texts[0])
off = float(np.abs(found - expected).max() / np.abs(expected).max())
print(json.dumps({"said": [str(one.message) for one in said], "off": off, "again": again - expected[0, 0]}))
"""


def test_a_batch_that_does_not_fit_is_halved(refusing: dict[str, str]) -> None:
    done = run_python(SCRIPT, ROOT, **refusing)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    # From 1,024 on, and what fits is some dozens.
    assert 2 <= len(told["said"]) <= 6
    assert all("memory ran out; going on with a batch_size of" in line for line in told["said"])
    assert told["off"] < 1e-6 and abs(told["again"]) < 1e-6
