"""The word order subsets of ARO: a caption of COCO or Flickr30k and four shuffles of its words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from discffusion.data.files import field, item, one_of, read_json, read_jsonl
from discffusion.data.item import MatchItem
from discffusion.data.lazy import Dataset
from discffusion.data.left_out import LeftOut, NoTextError, is_blank
from discffusion.data.options import chosen
from discffusion.data.order import ORDER, in_drawn_order
from discffusion.data.present import keep_present
from discffusion.data.sources import ImageLocation, ImageStore
from discffusion.errors import DatasetError

__all__ = ["ORDERS", "load_order", "plain"]

#: annotation file of every subset; its split stands in the name
ORDERS = {"coco_order": "coco_karpathy_{}.json", "flickr_order": "flickr30k_{}.json"}
_SHUFFLES = 4
_MOST_WORDS = 30
_HINT = {
    "coco_order": "They are images of COCO 2014; they belong in val2014 and test2014 below the root, or image_root=",
    "flickr_order": "They are images of Flickr30k; they belong in flickr30k-images below the root, or image_root=",
}


class _Row(NamedTuple):
    where: str
    key: str
    image: str
    place: ImageLocation | None
    caption: str
    shuffles: tuple[str, ...]


def load_order(
    base: Path, images: Path, split: str, subset: str, shuffles: Any, allow_missing: bool
) -> Dataset[_Row]:
    """A subset of word order: 1 image and 5 texts an item, of which one is the caption.

    The publishers draw the shuffles anew in every run, with part-of-speech tags that change with the version of the
    tagger. Here they are read from a file, so that two runs score the same texts: lines of
    ``{"image": ..., "caption": ..., "shuffles": [four texts]}``, a line a caption, image and caption as in the
    annotations. Captions and shuffles are both brought into the published form (:func:`plain`), or else full stops
    and capitals would give the caption away.

    Args:
        base: folder of the annotations, lists of ``{"image", "caption": [...]}``.
        images: folder of the images.
        split: ``"test"`` or ``"val"``.
        subset: one of :data:`ORDERS`.
        shuffles: the file of the shuffles; None for ``{subset}_{split}.jsonl`` in `base`.
    """
    chosen("aro", "split", split, ["test", "val"])
    annotations = one_of(base, [ORDERS[subset].format(split)], f"aro, subset {subset!r}")
    path = base / f"{subset}_{split}.jsonl" if shuffles is None else Path(shuffles).expanduser()
    if not path.is_file():
        raise DatasetError(
            f"aro: there is no file of shuffles {path}; {subset} needs one, a line of image, caption and four "
            'shuffles for every caption: {"image": …, "caption": …, "shuffles": [four texts]}; shuffles= names it'
        )
    store = ImageStore(images, ("", "images"))
    left = LeftOut("aro", base)
    rows = _read(annotations, path, subset, split, store, left)
    kept, missing = keep_present(
        rows,
        lambda row: [(row.image, row.place and row.place.file)],
        name="aro",
        hint=_HINT[subset],
        allow_missing=allow_missing,
    )

    def build(row: _Row) -> MatchItem:
        texts, right = in_drawn_order(row.key, [row.caption], row.shuffles)
        assert row.place is not None
        meta = {"images": [row.image]}
        return item(
            row.where, row.key, [store.open(row.place)], texts, right[None, :], group=subset, meta=meta
        )

    same = sum(row.caption in row.shuffles for row in rows)
    notes = [f"{same} of {len(rows)} captions are one of their own shuffles and cannot win"] if same else []
    notes += left.notes(len(rows))
    about = {"split": split, "subset": subset, "order": ORDER, "notes": notes}
    return Dataset(
        "aro",
        kept,
        build,
        metrics=("acc@1", "accuracy"),
        expected=len(rows) + len(left),
        missing=missing,
        about=about,
    )


def plain(caption: str) -> str:
    """A caption as ARO shows it: lower case, without most punctuation, single blanks, at most 30 words."""
    words = re.sub(r'[.!"()*#:;~]', " ", caption.lower()).split()
    return " ".join(words[:_MOST_WORDS])


def _read(
    annotations: Path, path: Path, subset: str, split: str, store: ImageStore, left: LeftOut
) -> list[_Row]:
    texts_of: dict[tuple[str, str], tuple[str, ...]] = {}
    for line, record in read_jsonl(path):
        where = f"{path}, line {line}"
        pair = field(record, "image", str, where), field(record, "caption", str, where)
        texts: list[Any] = field(record, "shuffles", list, where)
        if len(texts) != _SHUFFLES or not all(isinstance(text, str) and text.strip() for text in texts):
            raise DatasetError(f"{where}: shuffles is {str(texts)[:80]}; expected {_SHUFFLES} texts")
        texts_of[pair] = tuple(plain(text) for text in texts)
    rows = []
    for number, record in enumerate(read_json(annotations, list)):
        where = f"{annotations}, record {number}"
        image: str = field(record, "image", str, where)
        for place, caption in enumerate(field(record, "caption", list, where)):
            with left.unless_whole():
                if is_blank(caption):
                    raise NoTextError(f"{where}: caption {place} is empty")
                if not isinstance(caption, str):
                    raise DatasetError(f"{where}: caption {place} is {str(caption)[:80]!r}; expected a text")
                if (image, caption) not in texts_of:
                    raise DatasetError(f"{path} has no shuffles of caption {place} of {image} ({where})")
                key = f"aro/{subset}/{split}/{number}/{place}"
                row = _Row(where, key, image, store.find(image), plain(caption), texts_of[image, caption])
                rows.append(row)
    left.check(rows)
    if not rows:
        raise DatasetError(f"{annotations} holds no captions")
    return rows
