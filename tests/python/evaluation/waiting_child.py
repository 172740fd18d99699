"""One process of two: ``python -m tests.python.evaluation.waiting_child SECONDS own|given``.

The second process comes to the evaluation that many seconds after the first, in a group of the evaluation's own or in
one that the caller has made.
"""

from __future__ import annotations

import os
import sys
import time

from tests.python.evaluation.fake_scorers import ByPairs
from tests.python.evaluation.shared_child import given

from discffusion import _processes as group
from discffusion import evaluate


def main() -> None:
    late, whose = float(sys.argv[1]), sys.argv[2]
    group._SAY_AFTER = 1.0
    if whose == "given":
        import torch.distributed as dist

        dist.init_process_group("gloo")
    if os.environ["RANK"] == "1":
        time.sleep(late)
    print(evaluate(ByPairs(), given(8), progress=False)["accuracy"].value)


if __name__ == "__main__":
    main()
