"""RefCOCOg: an image and ten sentences, one of which was said of an object in it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from discffusion.data.files import folder, item, one_of
from discffusion.data.item import MatchItem
from discffusion.data.lazy import Dataset
from discffusion.data.masking import FILLS, PARTS, masked
from discffusion.data.options import chosen, image_folder, leading, wander, whole
from discffusion.data.present import Locator, keep_present
from discffusion.data.refcocog.read import Object, Sentence, objects, plain_text, sentences
from discffusion.data.shapes.randomness import generator, integer
from discffusion.errors import DatasetOptionError

__all__ = ["load"]

#: the two ways in which the expressions were split, and the part that is evaluated
SPLIT_BY = {"umd": "test", "google": "val"}
_FOLDERS = ("train2014", "images/train2014", "images", "", "refcocog/images/train2014")
_EXPECTED = "refs(umd).p or refs(google).p, instances.json, and the folder train2014"
_HINT = (
    "Fetch the training images of COCO 2014 (train2014.zip); they belong in train2014 below the root, or below "
    "image_root="
)


class _Row(NamedTuple):
    sentence: Sentence
    object: Object
    place: str | None


def load(
    root: Any = None,
    split: str | None = None,
    subset: str | None = None,
    split_by: str = "umd",
    n_texts: int = 10,
    seed: int = 0,
    mask: str | None = None,
    fill: str = "mean",
    fraction: float | None = None,
    allow_missing: bool = False,
    image_root: Any = None,
) -> Dataset[_Row]:
    """The dataset ``refcocog``: 1 image and `n_texts` sentences an item, one item for every sentence of the split.

    The other sentences are drawn from other images of the same split, and so is the place of the right one; they depend
    on the seed and the sentence alone. None of them, whatever its case and blanks, was said of the item's own image.
    Under ``meta["box"]`` is the object meant, as x, y, width and height in pixels of the image.

    Args:
        root: folder of ``refs(umd).p`` or ``refs(google).p``, ``instances.json`` and ``train2014``.
        split: a split of the refs file; None is ``"test"`` of umd and ``"val"`` of google, which has no test.
        subset: there are none.
        split_by: ``"umd"``, or ``"google"``, whose splits share images.
        n_texts: sentences an item, the right one included.
        seed: of the draws.
        mask: None; ``"object"`` paints over the box of the object meant, ``"rest"`` all that is outside the box.
            Keys and sentences stay the same, so that runs can be compared item by item.
        fill: colour of what is painted over: ``"mean"``, of the whole image, or ``"grey"`` (128, 128, 128).
        fraction: this share of the split's sentences from its beginning; the others still lend their sentences.
        allow_missing: leave items out whose image is not there.
        image_root: folder of ``train2014`` where that is not `root`.

    Raises:
        DatasetError: a file, record or image is missing or malformed, or an option is unknown.
    """
    base = folder(root, "refcocog", _EXPECTED)
    chosen("refcocog", "split_by", split_by, SPLIT_BY)
    if subset is not None:
        chosen("refcocog", "subset", subset, ())
    whole("n_texts", n_texts, 2, 1000)
    whole("seed", seed, 0, 2**63 - 1)
    if mask is not None:
        chosen("refcocog", "mask", mask, PARTS)
    chosen("refcocog", "fill", fill, FILLS)
    refs_file = f"refs({split_by}).p"
    path = one_of(base, [refs_file, f"refcocog/{refs_file}"], "refcocog")
    instances = one_of(path.parent, ["instances.json"], "refcocog")

    everything, empty = sentences(path)
    split = SPLIT_BY[split_by] if split is None else split
    chosen(f"refcocog ({refs_file})", "split", split, sorted({s.split for s in everything}))
    pool = [sentence for sentence in everything if sentence.split == split]
    taken = list(leading("refcocog", pool, fraction))
    by_id = objects(instances, taken)
    said = _said(everything)
    _check_pool(pool, taken, said, n_texts, path)

    images = image_folder(base, image_root, "refcocog")
    find = Locator(images, _FOLDERS)
    places = {thing.file_name: find(thing.file_name) for thing in by_id.values()}
    rows = [_Row(s, by_id[s.ann_id], places[by_id[s.ann_id].file_name]) for s in taken]
    kept, missing = keep_present(
        rows,
        lambda row: [(row.object.file_name, row.place)],
        name="refcocog",
        hint=_HINT,
        allow_missing=allow_missing,
    )

    def build(row: _Row) -> MatchItem:
        sentence, thing = row.sentence, row.object
        parts = ("refcocog", split_by, split, seed, sentence.ref_id, sentence.sent_id)
        rng = generator(*parts)
        right = integer(rng, 0, n_texts - 1)
        others = []
        used = set(said[sentence.image_id])
        for index in wander(rng, len(pool)):
            other = pool[index]
            if plain_text(other.text) not in used:
                used.add(plain_text(other.text))
                others.append(other)
                if len(others) == n_texts - 1:
                    break
        candidates = [*others[:right], sentence, *others[right:]]
        place = str(row.place)
        image: Any = images / place
        if mask is not None:
            image = masked(image, thing.box, thing.size, mask, fill, sentence.where)
        meta = {
            "images": [place],
            "ref_id": sentence.ref_id,
            "sent_id": sentence.sent_id,
            "ann_id": sentence.ann_id,
            "image_id": sentence.image_id,
            "category": thing.category,
            "box": list(thing.box),
            "mask": mask,
            "size": list(thing.size),
            "texts_of": [[other.ref_id, other.sent_id] for other in candidates],
        }
        key = f"refcocog/{split_by}/{split}/{sentence.ref_id}/{sentence.sent_id}"
        match = np.arange(n_texts)[None, :] == right
        return item(sentence.where, key, [image], [c.text for c in candidates], match, meta=meta)

    about = {
        "split": split,
        "split_by": split_by,
        "n_texts": n_texts,
        "seed": seed,
        "mask": mask,
        "fill": fill if mask is not None else None,
        "fraction": fraction,
        "notes": _notes(everything, pool, empty, n_texts, seed),
    }
    metrics = ["accuracy", "acc@1", *(["acc@5"] if n_texts > 5 else [])]
    return Dataset("refcocog", kept, build, metrics=metrics, expected=len(rows), missing=missing, about=about)


def _said(everything: list[Sentence]) -> dict[int, set[str]]:
    """All that was said of every image, in any split."""
    said: dict[int, set[str]] = {}
    for sentence in everything:
        said.setdefault(sentence.image_id, set()).add(plain_text(sentence.text))
    return said


def _check_pool(
    pool: list[Sentence], taken: list[Sentence], said: dict[int, set[str]], n_texts: int, path: Path
) -> None:
    distinct = {plain_text(sentence.text) for sentence in pool}
    for image_id in dict.fromkeys(sentence.image_id for sentence in taken):
        others = len(distinct) - len(distinct & said[image_id])
        if others < n_texts - 1:
            raise DatasetOptionError(
                f"{path}: the split has {others} sentences of images other than {image_id}; n_texts={n_texts} needs "
                f"{n_texts - 1}"
            )


def _notes(
    everything: list[Sentence], pool: list[Sentence], empty: int, n_texts: int, seed: int
) -> list[str]:
    notes = [
        f"{n_texts - 1} wrong texts an item, drawn from other images of the split with seed {seed}; by chance one may "
        "fit the image too"
    ]
    own = {sentence.image_id for sentence in pool}
    shared = {s.image_id for s in everything if s.split != pool[0].split and s.image_id in own}
    if shared:
        notes.append(f"{len(shared)} of the split's {len(own)} images belong to another split too")
    twice = sum(n for n in Counter((s.image_id, plain_text(s.text)) for s in pool).values() if n > 1)
    if twice:
        notes.append(f"{twice} of the split's {len(pool)} sentences were said more than once of their image")
    if empty:
        notes.append(f"{empty} empty sentences of the file are left out")
    return notes
