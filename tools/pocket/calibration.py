"""Fits the calibration of the bundled model's default score: ``python -m tools.pocket.calibration``.

The items are of the split ``train``, of every kind of text that people try: captions that differ in one word,
fragments, single words, captions of other scenes. The score stays as it is; what is fitted is the probability.
"""

from __future__ import annotations

from discffusion import Scorer, load_dataset
from discffusion.data.item import MatchItem
from discffusion.pocket import CALIBRATION

#: items of each subset
ITEMS = {"mixed": 150, "subject": 60, "object": 60, "attribute": 60, "predicate": 60}
SEED = 1


def items() -> list[MatchItem]:
    """Those that the bundled calibration was fitted to."""
    return [
        item
        for subset, n in ITEMS.items()
        for item in load_dataset("shapes", split="train", subset=subset, n=n, seed=SEED)
    ]


def main() -> None:
    scorer = Scorer(device="cpu", truncate="silent").with_calibration(None).with_config("default")
    calibration = scorer.calibrate(items(), over=())
    print(calibration)
    calibration.save(CALIBRATION)


if __name__ == "__main__":
    main()
