"""COCO captions: about five sentences an image, for retrieval and for pre-training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from discffusion.data.captions import TASKS, Captioned, of_task
from discffusion.data.files import field, folder, one_of, read_json
from discffusion.data.lazy import Dataset
from discffusion.data.left_out import text_field
from discffusion.data.options import chosen, image_folder, whole
from discffusion.data.present import keep_present
from discffusion.data.sources import ImageStore
from discffusion.errors import DatasetError

__all__ = ["SPLITS", "load"]

SPLITS = ("train2014", "val2014", "train2017", "val2017")


def load(
    root: Any = None,
    split: str = "val2017",
    subset: str | None = None,
    task: str = "retrieval",
    n_images: int | None = None,
    allow_missing: bool = False,
    image_root: Any = None,
) -> Dataset[Any]:
    """The dataset ``coco_captions``; see :func:`discffusion.data.captions.of_task` for the two tasks.

    Captions are kept as published, white space at their ends included. Captions that are blank and
    images without a caption are left out and counted in `about["notes"]`.

    Args:
        root: folder of ``captions_{split}.json``, or of the folder ``annotations`` that holds it, and of the images.
        split: one of :data:`SPLITS`.
        subset: there are none.
        task: ``"retrieval"`` or ``"pretraining"``.
        n_images: only the first so many images of the file that have captions, and only their captions: both sides of
            a retrieval task become smaller, so figures for different limits cannot be compared.
        allow_missing: leave images out that are not there, and their captions.
        image_root: folder of the images, or of ``val2017`` and so on, where that is not `root`.

    Raises:
        DatasetError: a file, record or image is missing or malformed, or an option is unknown.
    """
    base = folder(root, "coco_captions", "annotations/captions_val2017.json and the folder val2017")
    chosen("coco_captions", "split", split, SPLITS)
    chosen("coco_captions", "task", task, TASKS)
    if subset is not None:
        chosen("coco_captions", "subset", subset, [])
    limit = None if n_images is None else whole("n_images", n_images, 1, 10**9)
    file = f"captions_{split}.json"
    path = one_of(base, [file, f"annotations/{file}"], f"coco_captions, split {split!r}")
    store = ImageStore(
        image_folder(base, image_root, "coco_captions"), (split, f"images/{split}", f"coco/{split}", "")
    )
    images, without = _read(path, split)
    images = images[:limit]
    kept, missing = keep_present(
        images,
        lambda row: [(f"{split}/{row.image}", (place := store.find(row.image)) and place.file)],
        name="coco_captions",
        hint=f"Fetch {split}.zip of COCO; its images belong in {split} below the root, or below image_root=",
        allow_missing=allow_missing,
    )

    def fetch(row: Captioned) -> tuple[Any, str]:
        place = store.find(row.image)
        assert place is not None
        return store.open(place), f"{split}/{row.image}"

    about = {
        "split": split,
        "n_images": n_images,
        "notes": [f"{count} {what} left out" for what, count in without.items() if count],
    }
    return of_task("coco_captions", task, kept, fetch, listed=images, missing=missing, about=about)


def _read(path: Path, split: str) -> tuple[list[Captioned], dict[str, int]]:
    """Images with their captions in the order of the file, and what was left out."""
    content: dict[str, Any] = read_json(path, dict)
    names: dict[int, str] = {}
    for number, record in enumerate(field(content, "images", list, str(path))):
        where = f"{path}, images, record {number}"
        identity: int = field(record, "id", int, where)
        if identity in names:
            raise DatasetError(f"{where}: the id {identity} occurs twice")
        names[identity] = field(record, "file_name", str, where)
        if not names[identity]:
            raise DatasetError(f"{where}: file_name is empty")
    captions: dict[int, list[tuple[str, str]]] = {identity: [] for identity in names}
    seen = set[int]()
    for number, record in enumerate(field(content, "annotations", list, str(path))):
        where = f"{path}, annotations, record {number}"
        image: int = field(record, "image_id", int, where)
        key: int = field(record, "id", int, where)
        text = text_field(record, "caption", where)
        if image not in captions:
            raise DatasetError(f"{where}: image_id is {image}, and the file has no such image")
        if key in seen:
            raise DatasetError(f"{where}: the id {key} occurs twice")
        seen.add(key)
        if text.strip():
            captions[image].append((f"coco_captions/{split}/{image}/{key}", text))
    images = [
        Captioned(
            f"{path}, image {identity}",
            f"coco_captions/{split}/{identity}",
            name,
            [text for _, text in captions[identity]],
            [key for key, _ in captions[identity]],
        )
        for identity, name in names.items()
        if captions[identity]
    ]
    blank = len(seen) - sum(len(image.captions) for image in images)
    return images, {"images without a caption are": len(names) - len(images), "blank captions are": blank}
