"""VL-CheckList: an image and two short texts that differ in one object, attribute or relation; a tree of kinds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from discffusion._extras import need
from discffusion.data.files import field, folder, item, read_json, read_text
from discffusion.data.item import MatchItem
from discffusion.data.lazy import Dataset
from discffusion.data.left_out import LeftOut, is_blank
from discffusion.data.options import chosen, image_folder, whole
from discffusion.data.order import ORDER, in_drawn_order
from discffusion.data.present import keep_present
from discffusion.data.sources import ImageLocation, ImageStore
from discffusion.errors import DatasetError

__all__ = ["REFERENCE_PAIRS", "load"]

#: pairs of every file that the published evaluation looks at: its MAX_NUM of 2000 is halved
REFERENCE_PAIRS = 1000
_CORPORA = ("corpus/v1", "vl_checklist/corpus/v1", "corpus")
_FETCH = {
    "vg": "vg: the images of Visual Genome, in vg/VG_100K and vg/VG_100K_2",
    "hake": "hake: the images of HAKE, in hake/hcvrd, hake/openimages, hake/pic, hake/vcoco and so on",
    "swig": "swig: images_512.zip of SWiG, unpacked into swig",
}


class _Source(NamedTuple):
    """One yaml file: its path below the corpus, its leaf of the tree, and where its pairs come from."""

    name: str
    group: str
    annotations: Path
    folder: str


class _Row(NamedTuple):
    source: _Source
    number: int
    image: str
    place: ImageLocation | None
    positive: str
    negative: str

    @property
    def where(self) -> str:
        return f"{self.source.annotations}, record {self.number}"


def load(
    root: Any = None,
    split: str = "test",
    subset: str | None = None,
    first_pairs: int | None = REFERENCE_PAIRS,
    allow_missing: bool = False,
    image_root: Any = None,
) -> Dataset[_Row]:
    """The dataset ``vl_checklist``: 1 image and 2 texts an item, grouped by a path of the tree of kinds.

    The path is that of the yaml file, as ``Attribute/color/vg``. Where a collection has several files, it is a level of
    its own, as in ``Object/Size/large/vg/vg_obj``: the published means are taken over collections.

    Of every record the first entry of POS and the first of NEG are taken, as in the published evaluation. The order
    of the two follows :data:`discffusion.data.order.ORDER`. `about["notes"]` counts entries that are not looked at,
    files without records and records whose two texts are the same, which no scorer can get right.

    Args:
        root: a copy of the repository: ``corpus/v1`` with the yaml files and ``data`` with the json files.
        split: ``"test"``, the only one.
        subset: a path of the tree, as ``"Attribute"``, ``"Object/Size/large/vg"``, or of a file; None for all.
        first_pairs: of every json file only this many records from its beginning. The default is that of the published
            configurations; None takes all, 372 000. The published code counts after dropping records whose image is
            missing, this one before.
        allow_missing: leave items out whose image is not there. Items that lack a text are left out and counted in
            ``about["notes"]``.
        image_root: folder of ``vg``, ``hake`` and ``swig`` where that is not `root`.

    Raises:
        DatasetError: a file, record or image is missing or malformed, or an option is unknown.
        InstallationError: pyyaml is not installed.
    """
    base = folder(
        root, "vl_checklist", "the folders corpus/v1 and data of the repository, and vg, hake and swig"
    )
    chosen("vl_checklist", "split", split, ["test"])
    limit = None if first_pairs is None else whole("first_pairs", first_pairs, 1, 10**9)
    images = image_folder(base, image_root, "vl_checklist")
    stores: dict[str, ImageStore] = {}
    rows: list[_Row] = []
    counts: Counter[str] = Counter()
    for source in _sources(base, subset):
        if source.folder not in stores:
            stores[source.folder] = _store(images, source.folder)
        rows += _read(source, limit, stores[source.folder], counts)
    left = LeftOut("vl_checklist", base)
    rows = left.with_texts(
        rows, lambda row: row.where, lambda row: {"POS": row.positive, "NEG": row.negative}
    )
    if not rows:
        raise DatasetError(f"vl_checklist: the files of {subset or 'the corpus'} in {base} hold no records")
    absent = {row.source.folder for row in rows if row.place is None}
    kept, missing = keep_present(
        rows,
        lambda row: [(_reference(row), row.place and row.place.file)],
        name="vl_checklist",
        hint=_hint(images, absent),
        allow_missing=allow_missing,
    )

    def build(row: _Row) -> MatchItem:
        key = f"vl_checklist/{row.source.name}/{row.number}"
        texts, right = in_drawn_order(key, [row.positive], [row.negative])
        assert row.place is not None
        image = stores[row.source.folder].open(row.place)
        meta = {"images": [_reference(row)]}
        return item(row.where, key, [image], texts, right[None, :], group=row.source.group, meta=meta)

    about = {
        "split": split,
        "subset": subset,
        "first_pairs": first_pairs,
        "order": ORDER,
        "notes": _notes(counts, len(rows) + len(left)) + left.notes(len(rows)),
    }
    return Dataset(
        "vl_checklist",
        kept,
        build,
        metrics=("tree", "accuracy"),
        expected=len(rows) + len(left),
        missing=missing,
        about=about,
    )


def _sources(base: Path, subset: str | None) -> list[_Source]:
    corpus = next((base / name for name in _CORPORA if (base / name).is_dir()), None)
    if corpus is None:
        raise DatasetError(f"vl_checklist: {base} holds no folder {' or '.join(_CORPORA[:2])}")
    files = {
        path.relative_to(corpus).with_suffix("").as_posix(): path for path in sorted(corpus.rglob("*.yaml"))
    }
    if not files:
        raise DatasetError(f"vl_checklist: {corpus} holds no yaml files")
    names = list(files)
    if subset is not None:
        paths = {f"{part}/" for name in files for part in (name, _leaf(name))}
        nodes = {
            "/".join(path.split("/")[:depth]) for path in paths for depth in range(1, path.count("/") + 1)
        }
        # the published configurations write Object/location for Object/Location
        real = {node.lower(): node for node in sorted(nodes)}
        asked = subset.strip("/").lower() if isinstance(subset, str) else ""
        node = real[asked] if asked in real else chosen("vl_checklist", "subset", subset, sorted(nodes))
        names = [
            name for name in files if any(f"{path}/".startswith(f"{node}/") for path in (name, _leaf(name)))
        ]
    return [_source(base, name, files[name]) for name in names]


def _source(base: Path, name: str, path: Path) -> _Source:
    yaml = need("yaml", "data")
    try:
        settings = yaml.safe_load(read_text(path))
    except (yaml.YAMLError, RecursionError) as error:
        raise DatasetError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    annotations: str = field(settings, "ANNO_PATH", str, str(path))
    images: str = field(settings, "IMG_ROOT", str, str(path))
    kind = settings.get("TYPE", "TUPLE_JSON")
    if kind != "TUPLE_JSON":
        raise DatasetError(f"{path}: TYPE is {kind!r}; only TUPLE_JSON is known")
    if not (base / annotations).is_file():
        raise DatasetError(f"{path}: ANNO_PATH is {annotations}, and {base} holds no such file")
    return _Source(name, _leaf(name), base / annotations, Path(images).as_posix())


def _leaf(name: str) -> str:
    above, _, last = name.rpartition("/")
    collection, _, part = last.partition("_")
    return f"{above}/{collection}/{last}" if part else name


def _store(images: Path, name: str) -> ImageStore:
    """The images of one collection: where the yaml file says, or where its name is found below `images`."""
    if Path(name).is_absolute() and Path(name).is_dir():
        return ImageStore(Path(name))
    last = Path(name).name
    return ImageStore(images, (name.strip("/"), last, f"images/{last}", f"datasets/{last}", ""))


def _read(source: _Source, limit: int | None, store: ImageStore, counts: Counter[str]) -> Iterator[_Row]:
    records: list[Any] = read_json(source.annotations, list)
    counts["empty"] += not records
    for number, record in enumerate(records[:limit]):
        where = f"{source.annotations}, record {number}"
        if (
            not isinstance(record, list)
            or len(record) != 2
            or not isinstance(record[0], str)
            or not record[0]
        ):
            raise DatasetError(f"{where} is {str(record)[:80]}; expected [image, {{POS: [...], NEG: [...]}}]")
        texts = []
        for side in ("POS", "NEG"):
            entries: list[Any] = field(record[1], side, list, where)
            first: Any = next(iter(entries), 0)
            if not (is_blank(first) or isinstance(first, str)):
                raise DatasetError(f"{where}: {side} is {str(entries)[:80]}; expected a list with a text")
            texts.append("" if is_blank(first) else first)
            counts["further"] += len(entries) > 1 and side == "POS"
        counts["same"] += texts[0] == texts[1]
        yield _Row(source, number, record[0], store.find(record[0]), texts[0], texts[1])


def _reference(row: _Row) -> str:
    return f"{Path(row.source.folder).name}/{row.image}"


def _hint(images: Path, absent: Iterable[str]) -> str:
    """What to fetch for the collections that lack images; a folder that is not there at all is named."""
    said = []
    for name in sorted({Path(place).name for place in absent}):
        gone = "" if (images / name).is_dir() else f" (there is no folder {images / name})"
        said.append(_FETCH.get(name, f"{name}: the images that IMG_ROOT stands for") + gone)
    return f"They belong below {images}: " + "; ".join(said)


def _notes(counts: Counter[str], total: int) -> list[str]:
    notes = []
    if counts["empty"]:
        notes.append(f"{counts['empty']} json files hold no records")
    if counts["further"]:
        notes.append(
            f"{counts['further']} of {total} records hold further texts, of which only the first is used"
        )
    if counts["same"]:
        notes.append(f"{counts['same']} of {total} records have the same text twice and can not be right")
    return notes
