"""One process of an evaluation: ``python -m tests.python.evaluation.shared_child OUTPUT ITEMS SECONDS``."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from tests.python.evaluation.fake_scorers import ByPairs, item

from discffusion import MatchItem, evaluate


class Slow(ByPairs):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def score_pairs(self, images: Any, texts: Any, pairs: Any) -> Any:
        time.sleep(self.seconds)
        return super().score_pairs(images, texts, pairs)


def given(number: int) -> list[MatchItem]:
    return [item(place) for place in range(number)]


def main() -> None:
    output, number, seconds = sys.argv[1:]
    report = evaluate(
        Slow(float(seconds)),
        given(int(number)),
        output=None if output == "-" else output,
        batch_items=2,
        progress=lambda done, total: print(done, total, flush=True),
    )
    print(json.dumps(report.to_dict()), flush=True)


if __name__ == "__main__":
    main()
