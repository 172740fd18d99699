"""Images as they come from cameras: decoded one at a time, and a call with many of them can be stopped."""

from __future__ import annotations

import json
from pathlib import Path

from tests.python.processes import ROOT
from tests.python.run_python import run_python

# Files of 8 megapixels, 24 MB each when decoded.
BEGIN = """
import io, json, os, resource, signal, threading, time
import numpy as np
from PIL import Image
from discffusion import MatchItem, Scorer
from tests.python.training_items import SCORE, trainer_of

signal.signal(signal.SIGINT, signal.default_int_handler)
scorer = Scorer(MODEL, device="cpu", config="attention").with_config(**SCORE)
pixels = np.random.default_rng(0).integers(0, 256, (51, 64, 3), dtype=np.uint8)
file = io.BytesIO()
Image.fromarray(pixels).resize((3264, 2448)).save(file, "JPEG", quality=70)
images = [file.getvalue() + bytes([i]) for i in range(NUMBER)]  # what follows the end of a JPEG is not read
"""

MEMORY = """
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
expected = scorer.score(images[0], "a red circle")
before = peak()
scores = scorer.matrix(images, ["a red circle"], progress=False)
scorer.encode_images(images)
match = np.zeros((len(images), 1), bool)
match[0] = True
trainer_of(scorer).fit([MatchItem(key="many", images=images, texts=["a red circle"], match=match)], progress=False)
print(json.dumps({"more": peak() - before, "off": float(np.abs(scores - expected).max())}))
"""

STOPPED = """
match = np.zeros((len(images), 1), bool)
match[0] = True
item = MatchItem(key="many", images=images, texts=["a red circle"], match=match)
calls = {
    "score": lambda: scorer.score(images, ["a red circle"] * len(images), progress=False),
    "matrix": lambda: scorer.matrix(images, ["a red circle"], progress=False),
    "encode_images": lambda: scorer.encode_images(images),
    "fit": lambda: trainer_of(scorer).fit([item], progress=False),
}
waited = {}
for name, call in calls.items():
    sent = []
    def send():
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)
    timer = threading.Timer(0.7, send)
    timer.start()
    try:
        call()
        timer.cancel()
    except KeyboardInterrupt:
        waited[name] = time.monotonic() - sent[0]
print(json.dumps(waited))
"""


def test_memory_does_not_grow_with_the_number_of_files(tiny: Path) -> None:
    done = run_python(f"MODEL, NUMBER = {str(tiny)!r}, 16\n{BEGIN}{MEMORY}", ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    # all of them would be 380 MB
    assert told["more"] < 150
    assert told["off"] < 1e-5


def test_ctrl_c_is_heeded_between_two_files(tiny: Path) -> None:
    done = run_python(f"MODEL, NUMBER = {str(tiny)!r}, 200\n{BEGIN}{STOPPED}", ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    waited = json.loads(done.stdout)
    assert set(waited) == {"score", "matrix", "encode_images", "fit"}
    assert all(seconds < 1 for seconds in waited.values()), waited
