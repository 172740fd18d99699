"""Tar shards of images and captions, as img2dataset and CLIP_benchmark write them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from discffusion.data.archives.tar import Member, Shard, members, read_member, shards_of
from discffusion.data.captions import TASKS, Captioned, of_task
from discffusion.data.files import item, read_text
from discffusion.data.item import MatchItem
from discffusion.data.lazy import Dataset
from discffusion.data.left_out import LeftOut, NoTextError, text_field
from discffusion.data.options import chosen
from discffusion.data.present import keep_present
from discffusion.data.samples import IMAGE_KEYS, Parts, extensions, samples_of
from discffusion.errors import DatasetError, DatasetOptionError

__all__ = ["load"]

_HINT = (
    "A sample without an image may be a shard that was not written to its end, or have another extension, which is "
    "image_key="
)


class _Sample(NamedTuple):
    shard: Shard
    key: str
    image: Member | None
    text: str  # the caption, or the class in digits
    there: str  # its extensions

    @property
    def where(self) -> str:
        return f"{self.shard.path}, sample {self.key!r}"


def load(
    root: Any = None,
    split: str | None = None,
    subset: str | None = None,
    task: str | None = None,
    image_key: str | Sequence[str] | None = None,
    text_key: str = "txt",
    json_text_key: str | None = None,
    caption_lines: bool | None = None,
    template: str | None = None,
    allow_missing: bool = False,
) -> Dataset[Any]:
    """The dataset ``webdataset``: samples ``key.jpg`` (or png, gif…) with ``key.txt`` or ``key.json`` in tar shards.

    Shards are indexed when the dataset is opened, images read as bytes when an item is asked for. Nothing is unpacked
    or fetched. Keys are those of the shard and the sample, as ``00000.tar/000000012``. A sample that lacks its text is
    left out and counted in ``about["notes"]``; points in names: see :func:`discffusion.data.samples.samples_of`.

    Args:
        root: a tar file, a pattern (``"{00000..00003}.tar"``), a list of shards, a folder of tars, or a folder as
            CLIP_benchmark writes it: ``{split}/nshards.txt``, ``{split}/0.tar`` and so on.
        split: folder of the split; None for ``"test"`` where there is one.
        subset: there are none.
        task: ``"retrieval"`` or ``"pretraining"`` (see :func:`discffusion.data.captions.of_task`), or
            ``"classification"``: 1 image × a text of every class in ``classnames.txt``. None for what
            ``dataset_type.txt`` says or ``.cls`` members mean, else pre-training.
        image_key: extension of the images, as ``"input.jpg"``, several in the order of preference; None for those of
            :data:`discffusion.data.samples.IMAGE_KEYS`.
        text_key: extension of the captions.
        json_text_key: field of ``.json`` members that holds the caption, instead of `text_key`.
        caption_lines: whether every line is a caption of its own; None for yes where there is ``nshards.txt`` or
            ``dataset_type.txt``, else no.
        template: text of a class, with ``{c}`` for its name; None for the first line of
            ``zeroshot_classification_templates.txt``, else ``"a photo of a {c}"``.
        allow_missing: leave samples without an image out, and read shards that lack the mark of their end.

    Raises:
        DatasetError: a shard, member or sample is missing or malformed, or an option is unknown.
    """
    if root is None:
        raise DatasetOptionError(
            "webdataset needs root=: a folder of tars, a tar file, a pattern or a list of those"
        )
    if subset is not None:
        chosen("webdataset", "subset", subset, [])
    shards, base = shards_of(root, split)
    published = _published(base)
    if task is None:
        task = published or "pretraining"
    chosen("webdataset", "task", task, [*TASKS, "classification"])
    kinds = IMAGE_KEYS if image_key is None else extensions("image_key", image_key)
    wanted = "cls" if task == "classification" else "json"
    if json_text_key is None and task != "classification":
        wanted, *more = extensions("text_key", text_key)
        if more:
            raise DatasetOptionError(f"text_key= is {text_key!r}; expected one extension, as 'txt'")
    notes: list[str] = []
    left = LeftOut("webdataset", shards[0].path.parent)
    samples = []
    for shard in shards:
        for parts in _parts(shard, kinds, wanted, allow_missing, notes):
            with left.unless_whole():
                samples.append(_sample(shard, parts, wanted, json_text_key))
    left.check(samples)
    notes += left.notes(len(samples))
    if not samples:
        raise DatasetError(
            f"webdataset: the {len(shards)} shards hold no samples ({shards[0].path} and so on)"
        )
    kept, missing = keep_present(
        samples,
        lambda row: [(f"{row.shard.name}/{row.key}", row.image and row.image.name)],
        name="webdataset",
        hint=_HINT + next((f" (the first has {sample.there})" for sample in samples if not sample.image), ""),
        allow_missing=allow_missing,
    )
    about: dict[str, Any] = {
        "split": split,
        "shards": [shards[0].name, shards[-1].name, len(shards)],
        "notes": notes,
    }
    if task == "classification":
        return _classification(base, kept, template, len(samples) + len(left), missing, about)
    if caption_lines is None:
        caption_lines = published is not None or (shards[0].path.parent / "nshards.txt").is_file()
    listed = {id(sample): _captioned(sample, caption_lines) for sample in samples}
    images = [listed[id(sample)] for sample in kept]
    return of_task(
        "webdataset",
        task,
        images,
        _fetch,
        listed=list(listed.values()),
        missing=missing,
        about=about,
        left_out=len(left),
    )


def _published(base: Path | None) -> str | None:
    """What the files beside the shards say that they are for."""
    if base is None:
        return None
    if (base / "dataset_type.txt").is_file() and read_text(base / "dataset_type.txt").strip() == "retrieval":
        return "retrieval"
    return "classification" if (base / "classnames.txt").is_file() else None


def _parts(
    shard: Shard, kinds: Sequence[str], wanted: str, allow_missing: bool, notes: list[str]
) -> Iterator[Parts]:
    files, ended = members(shard.path)
    if not ended:
        said = f"{shard.path} has no mark at its end, so files may be missing from it"
        if not allow_missing:
            raise DatasetError(f"{said}; make or fetch it again. To read what is there: allow_missing=True")
        notes.append(f"{shard.name} has no mark at its end, so files may be missing from it")
    for parts in samples_of(files, kinds, wanted):
        if parts.twice is not None:
            raise DatasetError(f"{shard.path} holds {parts.twice!r} twice")
        yield parts


def _sample(shard: Shard, parts: Parts, wanted: str, json_key: str | None) -> _Sample:
    image = parts.image if parts.image is not None and parts.image.size else None
    if parts.text is None:
        raise NoTextError(
            f"{shard.path}, sample {parts.key!r} has no .{wanted}; it has {', '.join(sorted(parts.there))}: the "
            "extension of the captions is text_key=, a field of .json members json_text_key="
        )
    text = _text(shard, parts.text, json_key if wanted == "json" else None)
    return _Sample(shard, parts.key, image, text, ", ".join(parts.there))


def _text(shard: Shard, member: Member, json_key: str | None) -> str:
    where = f"{shard.path}, member {member.name!r}"
    try:
        text = read_member(shard.path, member).decode("utf-8-sig")
        if json_key is not None:
            record = json.loads(text)
            if isinstance(record, dict) and json_key not in record:
                there = ", ".join(map(str, record)) or "none"
                raise NoTextError(f"{where} has no field {json_key!r}; it has {there}")
            text = text_field(record, json_key, where)
    except UnicodeDecodeError as error:
        raise DatasetError(f"{where} is not UTF-8 text (byte {error.start})") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise DatasetError(f"{where} is not JSON: {error}") from None
    if not text.strip():
        raise NoTextError(f"{where} holds no text")
    return text.strip()


def _captioned(sample: _Sample, lines: bool) -> Captioned:
    captions = [line.strip() for line in sample.text.splitlines() if line.strip()] if lines else [sample.text]
    return Captioned(sample.where, f"{sample.shard.name}/{sample.key}", sample, captions)


def _fetch(row: Captioned) -> tuple[Any, str]:
    return _image(row.image)


def _image(sample: _Sample) -> tuple[bytes, str]:
    assert sample.image is not None
    return read_member(sample.shard.path, sample.image), f"{sample.shard.name}/{sample.image.name}"


def _classification(
    base: Path | None,
    samples: Sequence[_Sample],
    template: str | None,
    expected: int,
    missing: Sequence[str],
    about: Mapping[str, Any],
) -> Dataset[Any]:
    """1 image × a text of every class; a sample's class is the number in its ``.cls``."""
    if base is None or not (base / "classnames.txt").is_file():
        raise DatasetError(
            f"webdataset: task='classification' needs classnames.txt in {base or 'the folder'}"
        )
    names = [line.strip() for line in read_text(base / "classnames.txt").splitlines() if line.strip()]
    if template is None:
        path = base / "zeroshot_classification_templates.txt"
        written = [line for line in read_text(path).splitlines() if line.strip()] if path.is_file() else []
        template = written[0].strip() if written else "a photo of a {c}"
    if not isinstance(template, str) or "{c}" not in template:
        raise DatasetOptionError(f"webdataset: template is {template!r}; expected a text with {{c}} in it")
    texts = [template.replace("{c}", name) for name in names]
    for sample in samples:
        digits = sample.text.isascii() and sample.text.isdigit() and len(sample.text) < 10
        if not digits or int(sample.text) >= len(texts):
            raise DatasetError(
                f"{sample.where}: the class is {sample.text[:40]!r}; expected 0 to {len(texts) - 1}"
            )

    def build(sample: _Sample) -> MatchItem:
        pixels, reference = _image(sample)
        name = texts[int(sample.text)]
        match = np.array([[text == name for text in texts]])
        meta = {"images": [reference], "class": int(sample.text)}
        return item(sample.where, f"{sample.shard.name}/{sample.key}", [pixels], texts, match, meta=meta)

    return Dataset(
        "webdataset",
        samples,
        build,
        metrics=("acc@1", "acc@5"),
        expected=expected,
        missing=missing,
        about={**about, "task": "classification", "template": template},
    )
