"""ComVG as its publishers ship it, with drawn scenes as pictures."""

from __future__ import annotations

import csv
from pathlib import Path

from discffusion import load_dataset

COLUMNS = ("id", "sentence", "pos_triplet", "neg_triplet", "pos_image_id", "neg_image_id", "neg_value")


def write_comvg(root: Path, rows: int) -> None:
    """That many rows; each scene and its negative are two pictures, which two rows in turn share."""
    folder = root / "vg_concept"
    folder.mkdir(parents=True)
    kinds = {"subject": "subject", "object": "object", "predicate": "verb"}
    with (root / "compositional_visual_genome.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for number in range(rows // 2):
            subset = list(kinds)[number % 3]
            item = load_dataset("shapes", split="test", subset=subset, n=number + 1)[number]
            for place, image in enumerate(item.images):
                image.save(folder / f"{2 * number + place}.jpg", quality=95)
            for place, text in enumerate(item.texts):
                ids = (2 * number + place, 2 * number + 1 - place)
                table.writerow(
                    [2 * number + place, text, "man,on,grass", "('man', 'on', 'sand')", *ids, kinds[subset]]
                )
