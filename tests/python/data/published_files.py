"""Small datasets written to the schemas of their publishers, and pickles as Python 2 wrote them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

FIXTURES = Path(__file__).parents[2] / "fixtures" / "published"


def picture(path: Path, size: tuple[int, int] = (8, 6), seed: int = 0) -> Path:
    """Random pixels (width, height), stored without loss whatever the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    PIL.Image.fromarray(values).save(path, "PNG")
    return path


def touch(folder: Path, names: Iterable[str]) -> None:
    """Empty files: whether images are there is looked up without opening them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def write_json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def python2_pickle(value: Any) -> bytes:
    """Protocol 0 as the pickle module of Python 2 writes it: byte strings by their repr, memo entries, longs."""
    parts: list[bytes] = []
    stored: dict[str, int] = {}
    count = 0

    def put() -> bytes:
        nonlocal count
        count += 1
        return b"p%d\n" % (count - 1)

    def write(value: Any) -> None:
        if value is None:
            parts.append(b"N")
        elif isinstance(value, bool):
            parts.append(b"I01\n" if value else b"I00\n")
        elif isinstance(value, int):
            parts.append(b"I%d\n" % value if abs(value) < 2**31 else b"L%dL\n" % value)
        elif isinstance(value, float):
            parts.append(b"F%s\n" % repr(value).encode())
        elif isinstance(value, str):
            if value in stored:
                parts.append(b"g%d\n" % stored[value])
                return
            stored[value] = count
            parts.append(b"S" + repr(value.encode("latin-1"))[1:].encode() + b"\n" + put())
        elif isinstance(value, list):
            parts.append(b"(l" + put())
            for entry in value:
                write(entry)
                parts.append(b"a")
        elif isinstance(value, tuple):
            parts.append(b"(")
            for entry in value:
                write(entry)
            parts.append(b"t" + put())
        else:
            parts.append(b"(d" + put())
            for name, entry in value.items():
                write(name)
                write(entry)
                parts.append(b"s")

    write(value)
    return b"".join(parts) + b"."


def ref(ref_id: int, image_id: int, split: str, texts: Iterable[str]) -> dict[str, Any]:
    """A referring expression's record; its annotation is ``image_id * 10``."""
    sentences = [
        {"tokens": text.split(), "raw": text, "sent_id": ref_id * 100 + place, "sent": text.lower().strip()}
        for place, text in enumerate(texts)
    ]
    return {
        "sent_ids": [sentence["sent_id"] for sentence in sentences],
        "file_name": f"COCO_train2014_{image_id:012d}_{ref_id}.jpg",
        "ann_id": image_id * 10,
        "ref_id": ref_id,
        "image_id": image_id,
        "split": split,
        "sentences": sentences,
        "category_id": 18,
    }


def refcocog(
    root: Path, refs: list[dict[str, Any]], split_by: str = "umd", size: tuple[int, int] = (40, 30)
) -> Path:
    """``refs(...).p``, ``instances.json`` and ``train2014``."""
    root.mkdir(parents=True, exist_ok=True)
    (root / f"refs({split_by}).p").write_bytes(python2_pickle(refs))
    ids = sorted({record["image_id"] for record in refs})
    names = {image_id: f"COCO_train2014_{image_id:012d}.jpg" for image_id in ids}
    write_json(
        root / "instances.json",
        {
            "info": {},
            "images": [
                {"id": i, "file_name": names[i], "width": size[0], "height": size[1], "license": 1}
                for i in ids
            ],
            "annotations": [
                {
                    "id": i * 10,
                    "image_id": i,
                    "category_id": 18,
                    "bbox": [10.5, 5, 8.0, 6],
                    "area": 48.0,
                    "iscrowd": 0,
                    "segmentation": [],
                }
                for i in ids
            ],
            "categories": [{"id": 18, "name": "dog", "supercategory": "animal"}],
        },
    )
    for image_id, name in names.items():
        picture(root / "train2014" / name, size, image_id)
    return root


def question(
    question_id: int, image_id: int, text: str, kind: str, answer: str, others: Iterable[str] = ()
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A question's record and its annotation: of ten people, those not in `others` gave the answer."""
    others = list(others)
    given = [answer] * (10 - len(others)) + others
    return (
        {"image_id": image_id, "question": text, "question_id": question_id},
        {
            "question_type": text.split()[0],
            "multiple_choice_answer": answer,
            "answers": [
                {"answer": one, "answer_confidence": "yes", "answer_id": place}
                for place, one in enumerate(given, start=1)
            ],
            "image_id": image_id,
            "answer_type": kind,
            "question_id": question_id,
        },
    )


def vqav2(root: Path, records: list[tuple[dict[str, Any], dict[str, Any]]], part: str = "val2014") -> Path:
    """The files of questions and annotations, and the images."""
    root.mkdir(parents=True, exist_ok=True)
    head = {"info": {}, "task_type": "Open-Ended", "data_type": "mscoco", "data_subtype": part, "license": {}}
    write_json(
        root / f"v2_OpenEnded_mscoco_{part}_questions.json", {**head, "questions": [q for q, _ in records]}
    )
    # in another order than the questions, which the ids have to put right
    write_json(
        root / f"v2_mscoco_{part}_annotations.json", {**head, "annotations": [a for _, a in records][::-1]}
    )
    for asked, _ in records:
        picture(root / part / f"COCO_{part}_{asked['image_id']:012d}.jpg")
    return root
