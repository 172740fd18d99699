"""A process of a run that several do together: ``python -m tests.python.shared_training_child MODEL OUTPUT [FOLDER]``.

Each writes what it ends with to a file of its own; the first prints a line a step.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tests.python.training_items import SCORE, Drawn, trainer_of

from discffusion import Scorer

STEPS = 9  # three epochs of batches of 3, 3 and 1 items: some processes have none


def train(
    scorer: Scorer, folder: Path | None, callbacks: Any = ()
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Deltas, with the head weights that were learned, and history."""
    trainer = trainer_of(
        scorer, learning_rate=1e-2, rank=2, schedule="cosine", temperature=None, gradient_clip=0.5
    )
    history = trainer.fit(
        Drawn(7),
        epochs=3,
        batch_size=3,
        checkpoint_dir=folder,
        checkpoint_every=2,
        callbacks=callbacks,
        progress=False,
    )
    deltas = trainer.deltas
    heads = deltas.head_weights or {}
    arrays = {
        **deltas._core.arrays(),
        **{f"heads.{site}": np.array(values) for site, values in heads.items()},
    }
    return arrays, [dict(row) for row in history]


def main() -> None:
    model, output, *folder = map(Path, sys.argv[1:])
    with Scorer(model, device="cpu", **SCORE) as scorer:
        arrays, history = train(
            scorer, folder[0] if folder else None, [lambda row: print(row["step"], flush=True)]
        )
    np.savez(f"{output}-{os.environ.get('RANK', '0')}", history=json.dumps(history), **arrays)


if __name__ == "__main__":
    main()
