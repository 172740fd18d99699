"""ARO: relations, attributes and word order; a part of a Visual Genome image and texts that differ in those."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from discffusion.data.aro.order import ORDERS, load_order
from discffusion.data.files import field, folder, item, read_json
from discffusion.data.item import MatchItem
from discffusion.data.lazy import Dataset
from discffusion.data.left_out import LeftOut, text_field
from discffusion.data.options import chosen, image_folder
from discffusion.data.order import ORDER, in_drawn_order
from discffusion.data.present import keep_present
from discffusion.data.sources import ImageLocation, ImageStore
from discffusion.errors import DatasetError, DatasetOptionError

__all__ = ["FILES", "load"]

#: annotation file of every subset that shows a part of an image
FILES = {"relation": "visual_genome_relation.json", "attribution": "visual_genome_attribution.json"}
_LONGEST_SIDE = 1 << 13  # pixels; what a box reaches beyond the image is filled up
_HINT = (
    "Fetch vgr_vga_images.zip of ARO; it belongs in the root as it is, or unpacked as the folder images there, or give "
    "the folder of the images as image_root="
)


class _Row(NamedTuple):
    where: str
    key: str
    group: str
    image: str
    place: ImageLocation | None
    box: tuple[float, float, float, float]  # x, y, width, height in pixels
    true: str
    false: str

    @property
    def reference(self) -> str:
        return f"images/{self.image}#{','.join(f'{value:g}' for value in self.box)}"


def load(
    root: Any = None,
    split: str = "test",
    subset: str | None = None,
    shuffles: Any = None,
    allow_missing: bool = False,
    image_root: Any = None,
) -> Dataset[Any]:
    """The dataset ``aro``: 1 image and 2 texts an item, or 5 for the order of words.

    ``"relation"`` and ``"attribution"`` show the part of the image inside the record's box, cut out when the item is
    asked for; a box that reaches beyond the image is filled up with black, as in the published code. They are grouped
    as ``relation/to the left of`` and ``attribution/black_white``. ``"coco_order"`` and ``"flickr_order"``: see
    :func:`discffusion.data.aro.order.load_order`. The order of the texts follows
    :data:`discffusion.data.order.ORDER`.

    Args:
        root: folder of the json files, and of ``images`` or ``vgr_vga_images.zip``, which is not unpacked.
        split: ``"test"``; ``"val"`` too for the order of words.
        subset: ``"relation"``, ``"attribution"``, ``"coco_order"`` or ``"flickr_order"``; None for the first two.
        shuffles: file of the shuffled captions, for the order of words.
        allow_missing: leave items out whose image is not there. Items that lack a text are left out and counted in
            ``about["notes"]``.
        image_root: folder of the images where that is not `root`.

    Raises:
        DatasetError: a file, record or image is missing or malformed, or an option is unknown.
    """
    base = folder(root, "aro", ", ".join(FILES.values()) + " and images or vgr_vga_images.zip")
    if subset is not None:
        chosen("aro", "subset", subset, [*FILES, *ORDERS])
    images = image_folder(base, image_root, "aro")
    if subset in ORDERS:
        return load_order(base, images, split, str(subset), shuffles, allow_missing)
    if shuffles is not None:
        raise DatasetOptionError(f"aro: shuffles is for the subsets {' and '.join(ORDERS)}")
    chosen("aro", "split", split, ["test"])
    store = ImageStore(images, ("images", "", "VG_100K", "VG_100K_2"), ("vgr_vga_images.zip",))
    rows: list[_Row] = []
    for kind, name in FILES.items():
        if subset in (None, kind):
            if not (base / name).is_file():
                raise DatasetError(
                    f'aro: {base} holds no {name}; subset="..." reads one of {", ".join(FILES)}'
                )
            rows += _read(base / name, kind, store)
    left = LeftOut("aro", base)
    rows = left.with_texts(
        rows, lambda row: row.where, lambda row: {"true_caption": row.true, "false_caption": row.false}
    )
    if not rows:
        raise DatasetError(f"aro: the files of {base} hold no records")
    kept, missing = keep_present(
        rows,
        lambda row: [(f"images/{row.image}", row.place and row.place.file)],
        name="aro",
        hint=_HINT,
        allow_missing=allow_missing,
    )

    def build(row: _Row) -> MatchItem:
        texts, right = in_drawn_order(row.key, [row.true], [row.false])
        assert row.place is not None
        part = _cut(store.open(row.place), row.box, f"{row.where}: {row.image}")
        meta = {"images": [row.reference], "box": list(row.box)}
        return item(row.where, row.key, [part], texts, right[None, :], group=row.group, meta=meta)

    about: dict[str, Any] = {"split": split, "subset": subset, "order": ORDER, "notes": left.notes(len(rows))}
    return Dataset(
        "aro",
        kept,
        build,
        metrics=("aro", "accuracy"),
        expected=len(rows) + len(left),
        missing=missing,
        about=about,
    )


def _read(path: Path, kind: str, store: ImageStore) -> Iterator[_Row]:
    for number, record in enumerate(read_json(path, list)):
        where = f"{path}, record {number}"
        name: str = field(record, "image_path", str, where)
        box = [float(field(record, f"bbox_{side}", (int, float), where)) for side in "xywh"]
        if not all(abs(value) < _LONGEST_SIDE for value in box) or box[2] < 1 or box[3] < 1:
            raise DatasetError(f"{where}: the box {box} (x, y, width, height) is not part of an image")
        texts = [text_field(record, f"{side}_caption", where) for side in ("true", "false")]
        if not name.strip():
            raise DatasetError(f"{where}: image_path or a caption is empty")
        group = f"{kind}/{_class(record, kind, where)}"
        key = f"aro/{kind}/{number}"
        yield _Row(where, key, group, name, store.find(name), (box[0], box[1], box[2], box[3]), *texts)


def _class(record: dict[str, Any], kind: str, where: str) -> str:
    if kind == "relation":
        return str(field(record, "relation_name", str, where))
    pair: list[Any] = field(record, "attributes", list, where)
    if len(pair) != 2 or not all(isinstance(name, str) for name in pair):
        raise DatasetError(f"{where}: attributes is {str(pair)[:80]}; expected two names")
    return "_".join(pair)


def _cut(image: Path | bytes, box: tuple[float, float, float, float], where: str) -> Any:
    """The part of the image inside the box as a PIL image."""
    from PIL import Image

    x, y, width, height = box
    try:
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as pil_image:
            part = pil_image.convert("RGB").crop((x, y, x + width, y + height))
    except (OSError, ValueError, SyntaxError, KeyError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{where} is not an image that can be read: {error}") from None
    # pixels alone: what the file says about turning the whole image does not hold for a part of it
    return Image.fromarray(np.asarray(part))
