"""The lists of questions and answers that were released with Discffusion, as they are and with their leak closed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from discffusion.data.files import folder, item, one_of, read_csv, read_text, whole_number
from discffusion.data.item import MatchItem
from discffusion.data.lazy import Dataset
from discffusion.data.left_out import LeftOut
from discffusion.data.options import chosen, image_folder, leading, wander, whole
from discffusion.data.order import ORDER, in_drawn_order
from discffusion.data.present import Locator, keep_present
from discffusion.data.shapes.randomness import generator
from discffusion.errors import DatasetError, DatasetOptionError

__all__ = ["SUBSETS", "load"]

SUBSETS = ("binary", "number", "other")
#: file names of the two layouts; the second is the name that the released code asks for
_TEXTS = ("vqa_text_{split}.csv", "data/vqa_text_{split}.csv")
_IMAGES = ("test.txt", "data/test.txt", "test3.txt")
_PARTS = {"test": "val2014", "val": "val2014", "train": "train2014"}
_KINDS = {"yes or no": "binary", "numbers": "number", "others": "other"}
_WRONG = tuple(f"neg_sentence_{number}" for number in range(1, 10))
_LEAD = "The question is asking about "
_EXPECTED = "vqa_text_test.csv, vqa_text_train.csv or test.txt, and the folders val2014 or train2014"


class _Row(NamedTuple):
    key: str
    where: str
    kind: str
    text: str
    wrong: tuple[str, ...]  # other texts, or names of other images
    image: str  # name of the image that the text belongs to


def load(
    root: Any = None,
    split: str = "test",
    subset: str | None = None,
    layout: str = "texts",
    leaky: bool = True,
    seed: int = 0,
    fraction: float | None = None,
    allow_missing: bool = False,
    image_root: Any = None,
) -> Dataset[_Row]:
    """The dataset ``vqa_csv``: the released lists. A text is a question, a blank and an answer.

    With ``layout="texts"`` (``vqa_text_test.csv``, called vqa_other in the release) an item is 1 image and 10 texts as
    published; its kind is read off the right answer. The file gives the answer away: many right texts end in yes or no
    and no wrong one does. ``about["notes"]`` counts them in the file at hand; ``leaky=False`` leaves those rows out,
    and those in which the right text is among the wrong ones.

    With ``layout="images"`` (``test.txt``; the release evaluates its yes-or-no part and calls it vqa_binary) an item
    is 1 text and 10 images: its own, and 9 of other questions of the same kind drawn from the seed and the line.

    The order of candidates depends on the item's key alone, see :data:`discffusion.data.order.ORDER`.

    Args:
        root: folder of the lists and of ``val2014`` and ``train2014``.
        split: ``"test"``, ``"val"`` or ``"train"``; ``layout="images"`` has ``"test"`` only.
        subset: ``"binary"``, ``"number"``, ``"other"`` or None for all.
        layout: ``"texts"`` or ``"images"``.
        leaky: whether to keep the rows that can be told without the image, see above.
        seed: of the images drawn.
        fraction: this share of the file's rows from its beginning, before anything else is left out: the release
            trains on 0.05 of ``vqa_text_train.csv``.
        allow_missing: leave items out that lack an image. Items that lack a text are left out and counted in
            ``about["notes"]``.
        image_root: folder of ``val2014`` and ``train2014`` where that is not `root`.

    Raises:
        DatasetError: a file, row or image is missing or malformed, or an option is unknown.
    """
    base = folder(root, "vqa_csv", _EXPECTED)
    chosen("vqa_csv", "layout", layout, ("texts", "images"))
    chosen("vqa_csv", "split", split, _PARTS if layout == "texts" else ["test"])
    if subset is not None:
        chosen("vqa_csv", "subset", subset, SUBSETS)
    whole("seed", seed, 0, 2**63 - 1)
    if not isinstance(leaky, bool):
        raise DatasetOptionError(f"leaky is {leaky!r}; it must be True or False")
    if not leaky and layout == "images":
        raise DatasetOptionError("leaky=False is for layout='texts': wrong images give no answer away")
    names = _IMAGES if layout == "images" else [name.format(split=split) for name in _TEXTS]
    path = one_of(base, names, f"vqa_csv, split {split!r}")
    rows = _read_texts(path, split) if layout == "texts" else _read_images(path, seed)
    rows = [row for row in leading("vqa_csv", rows, fraction) if subset in (None, row.kind)]
    left = LeftOut("vqa_csv", path.parent)
    rows = left.with_texts(rows, lambda row: row.where, _texts_of if layout == "texts" else _text_of)
    notes = _notes(rows, leaky) if layout == "texts" else [_drawn(seed)]
    notes += left.notes(len(rows))
    if not leaky and layout == "texts":
        rows = [row for row in rows if not (_yes_no(row.text) or row.text in row.wrong)]
    if not rows:
        which = f" of the subset {subset!r}" if subset else ""
        raise DatasetError(
            f"{path} holds no rows{which}" + ("" if leaky else " but those that leak their answer")
        )

    part = _PARTS[split]
    images = image_folder(base, image_root, "vqa_csv")
    find = Locator(images, (part, f"images/{part}", "images", ""))
    shown = {row.key: (row.image, *(row.wrong if layout == "images" else ())) for row in rows}
    places = {name: find(name) for several in shown.values() for name in several}
    kept, missing = keep_present(
        rows,
        lambda row: [(name, places[name]) for name in shown[row.key]],
        name="vqa_csv",
        hint=f"Fetch {part}.zip of COCO; its images belong in {part} below the root, or below image_root=",
        allow_missing=allow_missing,
    )

    def build(row: _Row) -> MatchItem:
        candidates, right = in_drawn_order(
            row.key, [row.image if layout == "images" else row.text], row.wrong
        )
        if layout == "images":
            there, texts, match = [str(places[name]) for name in candidates], [row.text], right[:, None]
        else:
            # a wrong text that repeats the right one cannot be told from it: it matches too
            there, texts, match = [str(places[row.image])], candidates, right[None, :].copy()
            match[0] |= [text == row.text for text in texts]
        paths = [images / place for place in there]
        return item(row.where, row.key, paths, texts, match, group=row.kind, meta={"images": there})

    about = {
        "split": split,
        "subset": subset,
        "layout": layout,
        "leaky": leaky,
        "seed": seed if layout == "images" else None,
        "fraction": fraction,
        "order": ORDER,
        "notes": notes,
    }
    metrics, expected = ("accuracy", "acc@1", "acc@5"), len(rows) + len(left)
    return Dataset("vqa_csv", kept, build, metrics=metrics, expected=expected, missing=missing, about=about)


def _read_texts(path: Path, split: str) -> list[_Row]:
    rows: list[_Row] = []
    for line, cells in read_csv(path, ("sentence", "pos_image_id", *_WRONG)):
        where = f"{path}, line {line}"
        number = whole_number(
            cells["pos_image_id"], f"{where}: pos_image_id", "the number of a COCO image", most=12
        )
        text = cells["sentence"]
        image = f"COCO_{_PARTS[split]}_{number:012d}.jpg"
        wrong = tuple(cells[column] for column in _WRONG)
        rows.append(_Row(f"vqa_csv/{split}/texts/{len(rows) + 1}", where, _kind(text), text, wrong, image))
    return rows


def _read_images(path: Path, seed: int) -> list[_Row]:
    """Rows of ``image*The question is asking about KIND: text``, with nine images of others of their kind."""
    rows: list[_Row] = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        image, star, rest = line.strip().partition("*")
        lead, colon, text = rest.partition(":")
        if not (star and colon and image.strip() and lead.startswith(_LEAD)):
            raise DatasetError(
                f"{where} is {line[:80]!r}; expected image*{_LEAD}KIND: question and statement"
            )
        kind = lead.removeprefix(_LEAD)
        if kind not in _KINDS:
            raise DatasetError(
                f"{where}: the question is about {kind!r}; expected one of {', '.join(_KINDS)}"
            )
        key = f"vqa_csv/test/images/{number}"
        rows.append(_Row(key, where, _KINDS[kind], text.strip(), (), image.strip()))
    pools = {kind: list(dict.fromkeys(row.image for row in rows if row.kind == kind)) for kind in SUBSETS}
    return [row._replace(wrong=_others(row, pools[row.kind], seed)) for row in rows]


def _texts_of(row: _Row) -> dict[str, str]:
    return {"sentence": row.text, **dict(zip(_WRONG, row.wrong, strict=True))}


def _text_of(row: _Row) -> dict[str, str]:
    return {"the text": row.text}


def _others(row: _Row, pool: Sequence[str], seed: int) -> tuple[str, ...]:
    if len(pool) < 10:
        raise DatasetError(
            f"{row.where}: the questions of its kind, {row.kind!r}, have {len(pool)} images; an item needs 10"
        )
    order = (pool[index] for index in wander(generator(row.key, seed), len(pool)))
    images = (image for image in order if image != row.image)
    return tuple(image for image, _ in zip(images, range(9), strict=False))


def _last_word(text: str) -> str:
    return text.split()[-1].lower() if text.split() else ""


def _yes_no(text: str) -> bool:
    return _last_word(text) in ("yes", "no")


def _kind(text: str) -> str:
    if _yes_no(text):
        return "binary"
    # "12", "0.5", "10:30"
    return "number" if _last_word(text).replace(".", "").replace(":", "").isdecimal() else "other"


def _notes(rows: Sequence[_Row], leaky: bool) -> list[str]:
    right = sum(_yes_no(row.text) for row in rows)
    wrong = sum(any(map(_yes_no, row.wrong)) for row in rows)
    among = sum(row.text in row.wrong for row in rows)
    twice = sum(max(Counter(row.wrong).values()) > 1 for row in rows)
    notes = [
        f"{right} of {len(rows)} positives end in yes/no and "
        + (f"{wrong} rows have a negative that does" if wrong else "no negative does")
    ]
    if right and not wrong:
        notes[0] += ": these rows can be answered without the image"
    if among:
        notes.append(
            f"{among} of {len(rows)} rows have their positive among the negatives; it counts as a match"
        )
    if twice:
        notes.append(f"{twice} of {len(rows)} rows have a negative twice")
    if not leaky:
        gone = sum(_yes_no(row.text) or row.text in row.wrong for row in rows)
        notes.append(
            f"leaky=False: {gone} of {len(rows)} rows are left out for that; the list as published has them"
        )
    return notes


def _drawn(seed: int) -> str:
    return (
        f"9 wrong images an item, drawn from other questions of its kind with seed {seed}; by chance the text may be "
        "true of one of them too"
    )
