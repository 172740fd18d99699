"""A signal's handler that asks the trainer for what it has, in the middle of a step."""

from __future__ import annotations

import json
from pathlib import Path

from tests.python.processes import ROOT
from tests.python.run_python import run_python

SCRIPT = """
import faulthandler, json, signal, sys
from tests.python.training_items import Drawn, trainer_of
from discffusion import Scorer, TrainingError

faulthandler.dump_traceback_later(200, exit=True)  # a handler that waits for its own thread would do so for ever
model, path = sys.argv[1:] if len(sys.argv) > 2 else (MODEL, PATH)
scorer = Scorer(model, device="cpu", config="attention")
options = {"timesteps_per_step": 40}

digests = {}
undisturbed = trainer_of(scorer, **options)
digests[0] = undisturbed.deltas.digest()
undisturbed.fit(Drawn(2), epochs=2, callbacks=[lambda row: digests.update({row["step"]: undisturbed.deltas.digest()})])

trainer, seen = trainer_of(scorer, **options), []

def handler(*_):
    try:
        trainer._core.has(0)
        inside = False
    except TrainingError as error:
        inside = "in the middle of a step" in str(error)
    if trainer._run is None:
        return
    trainer.save(path)
    saved = scorer.with_config().load_deltas(path) or None
    again = Scorer(model, device="cpu", config="attention")
    again.load_deltas(path)
    told = again.deltas.metadata["training"]
    seen.append([inside, trainer.steps, trainer.deltas.digest(), again.deltas.digest(), told])

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.3, 0.3)
trainer.fit(Drawn(2), epochs=2)
signal.setitimer(signal.ITIMER_REAL, 0)
print(json.dumps({"digests": digests, "seen": seen, "end": trainer.deltas.digest()}))
"""


def test_a_handler_reads_and_saves_the_last_whole_state(tiny: Path, tmp_path: Path) -> None:
    names = f"MODEL, PATH = {str(tiny)!r}, {str(tmp_path / 'preempted.safetensors')!r}\n"
    done = run_python(names + SCRIPT, ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    inside = [row for row in told["seen"] if row[0]]
    assert inside, "no signal came in the middle of a step"
    for _, steps, shown, saved, training in inside:
        assert shown == saved == told["digests"][str(steps)]
        about = json.loads(training) if isinstance(training, str) else training
        assert about["steps"] == steps
    # what the handler asked for has changed nothing
    assert told["end"] == told["digests"]["4"]
