"""A signal's handler that asks the trainer for what it has, in the middle of a step."""

from __future__ import annotations

import json
from pathlib import Path

from tests.python.processes import ROOT
from tests.python.run_python import run_python

SCRIPT = """
import faulthandler, json, signal
from tests.python.training_items import Drawn, trainer_of
from discffusion import Scorer, TrainingError

faulthandler.dump_traceback_later(250, exit=True)  # a handler that waits for its own thread would do so for ever
scorer = Scorer(MODEL, device="cpu", config="attention")
options = {"timesteps_per_step": 12}

digests = {}
undisturbed = trainer_of(scorer, **options)
digests[0] = undisturbed.deltas.digest()
undisturbed.fit(Drawn(2), epochs=2, callbacks=[lambda row: digests.update({row["step"]: undisturbed.deltas.digest()})])

trainer, seen = trainer_of(scorer, **options), []
reader = scorer.with_config()

def handler(*_):
    try:
        trainer._core.ensure([0])
    except TrainingError as error:
        assert "in the middle of a step" in str(error)
        trainer.save(PATH)
        reader.load_deltas(PATH)
        steps = reader.deltas.metadata["training"]["steps"]
        seen.append([trainer.steps, steps, trainer.deltas.digest(), reader.deltas.digest()])
    if len(seen) < 6:
        signal.setitimer(signal.ITIMER_REAL, 0.03)

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.03)
trainer.fit(Drawn(2), epochs=2)
signal.setitimer(signal.ITIMER_REAL, 0)
print(json.dumps({"digests": digests, "seen": seen, "end": trainer.deltas.digest()}))
"""


def test_a_handler_reads_and_saves_the_last_whole_state(tiny: Path, tmp_path: Path) -> None:
    names = f"MODEL, PATH = {str(tiny)!r}, {str(tmp_path / 'preempted.safetensors')!r}\n"
    done = run_python(names + SCRIPT, ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert told["seen"], "no signal came in the middle of a step"
    for steps, saved_steps, shown, saved in told["seen"]:
        assert steps == saved_steps
        assert shown == saved == told["digests"][str(steps)]
    # what the handler asked for has changed nothing
    assert told["end"] == told["digests"]["4"]
