"""A run of its own, for tests that kill it: ``python -m tests.python.training_child MODEL FOLDER EPOCHS [WINDOW]``.

Prints a line a step, and at the end the digest of the deltas and the history. With a window it kills itself there.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.python.training_items import SCORE, Drawn, trainer_of

from discffusion import Scorer, Trainer
from discffusion.training import folder
from discffusion.training.callback_list import CallbackList
from discffusion.training.folder import Folder

EPOCHS = 3
STEPS = 5 * EPOCHS


def trainer_of_run(scorer: Scorer) -> Trainer:
    """Low rank, so that random starting values count; a schedule and a temperature of its own, for the same reason."""
    return trainer_of(scorer, rank=2, schedule="cosine", warmup_steps=2, temperature=None)


def train(
    scorer: Scorer, path: Path | None, callbacks: Any = (), epochs: int = EPOCHS, **more: Any
) -> Trainer:
    """Epochs of five items with a validation each."""
    trainer = trainer_of_run(scorer)
    trainer.fit(
        Drawn(5),
        Drawn(2, first=20),
        epochs=epochs,
        checkpoint_dir=path,
        checkpoint_every=2,
        callbacks=callbacks,
        **more,
    )
    return trainer


def outcome(trainer: Trainer) -> dict[str, Any]:
    return {"digest": trainer.deltas.digest(), "history": list(trainer.history)}


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_call(owner: Any, name: str, number: int, do: Callable[..., Any]) -> None:
    """Has the call of that number do something else first."""
    real = getattr(owner, name)
    calls = [0]

    def instead(*arguments: Any, **more: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            do(*arguments, **more)
        return real(*arguments, **more)

    setattr(owner, name, instead)


def half_a_row(self: Folder, row: dict[str, Any]) -> None:
    assert self._history is not None
    self._history.write(json.dumps(row)[:20].encode())
    die()


def half_a_state(self: Folder) -> None:
    (self.path / f".step-00000099.safetensors.{os.getpid()}.tmp").write_bytes(b"half of a state")
    die()


def half_a_history(path: Path, text: str) -> None:
    path.with_name(f".{path.name}.{os.getpid()}.tmp").write_text(text[: len(text) // 2])
    die()


def one_is_gone(self: Folder, *_: Any) -> None:
    states = sorted(self.path.glob("step-*"))
    assert len(states) > 2
    states[0].unlink()
    die()


# where a run kills itself; each goes on from what the one before left
WINDOWS: dict[str, Callable[[], None]] = {
    "in a new folder": lambda: at_call(Folder, "clean", 1, die),
    "before the first best deltas": lambda: at_call(Trainer, "save", 1, die),
    "before the row of the first validation": lambda: at_call(Folder, "append", 1, die),
    "before the first state": lambda: at_call(Folder, "sync", 1, die),
    "the first state is half written": lambda: at_call(Folder, "sync", 1, half_a_state),
    "before other states are removed": lambda: at_call(Folder, "prune", 2, die),
    "after two steps, before their state": lambda: at_call(Folder, "sync", 1, die),
    "half a row is written": lambda: at_call(Folder, "append", 2, half_a_row),
    "the history is half rewound": lambda: at_call(folder, "write_text", 1, half_a_history),
    "the history is rewound, and not in place": lambda: at_call(Path, "replace", 1, die),
    "after two steps and their state": lambda: at_call(Folder, "prune", 1, die),
    "one of several states is removed": lambda: at_call(Folder, "prune", 1, one_is_gone),
    "after a validation, before its state": lambda: at_call(Folder, "sync", 1, die),
    "after a validation and its state": lambda: at_call(Folder, "prune", 1, die),
    "before the best deltas are restored": lambda: at_call(CallbackList, "end", 1, die),
}


def main() -> None:
    model, path = Path(sys.argv[1]), Path(sys.argv[2])
    if len(sys.argv) > 4:
        WINDOWS[sys.argv[4]]()
    with Scorer(model, device="cpu", **SCORE) as scorer:
        trainer = train(
            scorer, path, [lambda row: print("step", row["step"], flush=True)], epochs=int(sys.argv[3])
        )
        print(json.dumps(outcome(trainer)), flush=True)


if __name__ == "__main__":
    main()
