"""An evaluation of its own, for tests that kill it: ``python -m tests.python.evaluation.eval_child OUTPUT ITEMS``.

Prints a line when something was scored, and the report at the end.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from discffusion import Report, Scorer, evaluate, load_dataset


def run(output: Path | None, items: int, progress: Any = False) -> Report:
    """The pocket model at one timestep, three items to a block."""
    with Scorer(device="cpu", noise_levels=[0.5]) as scorer:
        return evaluate(
            scorer, load_dataset("shapes", n=items), output=output, progress=progress, batch_items=3
        )


def main() -> None:
    report = run(Path(sys.argv[1]), int(sys.argv[2]), lambda done, total: print(done, total, flush=True))
    print(json.dumps(report.to_dict()), flush=True)


if __name__ == "__main__":
    main()
