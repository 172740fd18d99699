"""What is in a shard: images with texts. Whatever is wrong with one is told with it and stops nothing."""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from discffusion.data.archives.tar import Member, members, read_member
from discffusion.data.present import rooted
from discffusion.data.samples import IMAGE_KEYS, extensions, samples_of
from discffusion.data.tables.cells import EmbeddedImage, ParquetRows, as_image
from discffusion.errors import DatasetError
from discffusion.images import MAX_FILE_BYTES
from discffusion.shards.inputs import Shard, printable
from discffusion.shards.layout import Layout
from discffusion.shards.places import is_remote, read_bytes

__all__ = ["Failure", "Sample", "samples"]


class Failure(NamedTuple):
    """Why there is no score: a kind from :data:`discffusion.shards.rows.KINDS`, and a sentence."""

    kind: str
    message: str


class Sample(NamedTuple):
    """An image with its texts.

    Attributes:
        member: its name in the shard, or the number of its row, from 0; no two samples have the same.
        key: what the caller calls it, or None.
        image: what is the same for samples of the same image.
        read: gives the image's bytes, or raises OSError or DatasetError.
        texts: the texts, or what is wrong instead.
    """

    member: str
    key: str | None
    image: str
    read: Callable[[], bytes]
    texts: tuple[str | Failure, ...]


def samples(shard: Shard, path: Path, layout: Layout) -> Iterator[Sample | tuple[str, Failure]]:
    """The samples of a shard in order, or of one that is none, its member and why.

    Args:
        path: where the shard is now.

    Raises:
        DatasetError: the shard as a whole cannot be read.
    """
    kind = PurePosixPath(shard.name).suffix.lower()
    if kind == ".tar":
        return _tar(shard, path, layout)
    return (_parquet if kind == ".parquet" else _lines)(shard, path, layout)


def _tar(shard: Shard, path: Path, layout: Layout) -> Iterator[Sample | tuple[str, Failure]]:
    files, ended = members(path)
    if not ended and not layout.allow_missing:
        raise DatasetError(
            f"{shard.address} has no mark at its end, so files may be missing from it; make or fetch it again, or read "
            "what is there with allow_missing=True"
        )
    kinds = IMAGE_KEYS if layout.image_key is None else extensions("image_key", layout.image_key)
    wanted = extensions("text_key", layout.text_key)[0] if layout.json_text_key is None else "json"
    for parts in samples_of(files, kinds, wanted):
        name, there = printable(parts.key), printable(", ".join(sorted(parts.there)))
        if parts.twice is not None:
            yield name, Failure("duplicate_member", f"{parts.twice!a} is there twice")
        elif parts.image is None or not parts.image.size:
            yield name, Failure("missing_image", _no_image(parts.image, kinds, there))
        elif parts.text is None:
            yield name, Failure("missing_text", f"there is no .{wanted}; there is {there}")
        else:
            texts = _captions(path, parts.text, layout)
            yield Sample(name, None, name, _reader(path, parts.image), texts)


def _no_image(image: Member | None, kinds: Sequence[str], there: str) -> str:
    if image is not None:
        return "the image is empty"
    expected = ", ".join(kinds[:4]) + (" and so on" if len(kinds) > 4 else "")
    return f"the image is missing; there is {there}, expected {expected} (image_key=)"


def _reader(path: Path, member: Member) -> Callable[[], bytes]:
    def read() -> bytes:
        if member.size > MAX_FILE_BYTES:
            raise OSError(f"the image has {member.size} bytes; expected {MAX_FILE_BYTES} at most")
        return read_member(path, member)

    return read


def _captions(path: Path, member: Member, layout: Layout) -> tuple[str | Failure, ...]:
    if member.size > _MOST_TEXT:
        return (Failure("bad_text", f"the text has {member.size} bytes"),)
    try:
        value: Any = read_member(path, member).decode("utf-8-sig")
        if layout.json_text_key is not None:
            record = json.loads(value)
            if not isinstance(record, dict):
                return (Failure("bad_text", f"the .json holds {type(record).__name__}; expected an object"),)
            return _texts(record.get(layout.json_text_key))
    except UnicodeDecodeError as error:
        return (Failure("bad_text", f"it is not UTF-8 text (byte {error.start})"),)
    except (ValueError, RecursionError) as error:
        return (Failure("bad_text", f"the .json is not JSON: {error}"),)
    return _texts(value.splitlines() if layout.caption_lines else value)


_MOST_TEXT = 1 << 24


def _texts(value: Any) -> tuple[str | Failure, ...]:
    """The texts in a cell: one, or a list of them, in which empty lines do not count."""
    values = value if isinstance(value, list) else [value]
    if isinstance(value, list) and all(isinstance(text, str) for text in values):
        values = [text for text in values if text.strip()]
    return tuple(map(_text, values)) or (Failure("missing_text", "there is no text"),)


def _text(value: Any) -> str | Failure:
    if value is None or (isinstance(value, str) and not value.strip()):
        return Failure("missing_text", "the text is empty" if value is not None else "there is no text")
    if not isinstance(value, str):
        return Failure("bad_text", f"the text is {type(value).__name__}; expected a string")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return Failure("bad_text", f"it is not valid Unicode: {error.reason}")
    return value.strip()


def _lines(shard: Shard, path: Path, layout: Layout) -> Iterator[Sample | tuple[str, Failure]]:
    try:
        with path.open("rb") as file:
            row = 0
            for line in file:
                if not line.strip():
                    continue
                try:
                    record = json.loads(line.decode("utf-8-sig" if row == 0 else "utf-8"))
                except (ValueError, RecursionError) as error:
                    yield str(row), Failure("bad_row", f"the line is not JSON: {error}")
                else:
                    if isinstance(record, dict):
                        yield _row(shard, row, record, layout)
                    else:
                        kind = type(record).__name__
                        yield str(row), Failure("bad_row", f"the line holds {kind}; expected an object")
                row += 1
    except OSError as error:
        raise DatasetError(f"{shard.address} cannot be read: {error.strerror or error}") from None


def _parquet(shard: Shard, path: Path, layout: Layout) -> Iterator[Sample | tuple[str, Failure]]:
    named = [layout.image, layout.text, *([layout.key] if layout.key else [])]
    rows = ParquetRows([path], named)
    for number in range(len(rows)):
        try:
            record = rows.row(number)
        except DatasetError as error:
            yield str(number), Failure("bad_row", str(error))
            continue
        sample = _row(shard, number, record, layout)
        if isinstance(sample, Sample) and sample.image.startswith("sha256:"):
            # pixels of thousands of rows would not fit into memory: they are read again when their turn comes
            sample = sample._replace(read=_cell_reader(rows, number, layout.image))
        yield sample


def _cell_reader(rows: ParquetRows, number: int, column: str) -> Callable[[], bytes]:
    def read() -> bytes:
        held = as_image(rows.row(number)[column], "")
        assert isinstance(held, EmbeddedImage)
        return bytes(held.image)

    return read


def _row(
    shard: Shard, number: int, record: Mapping[str, Any], layout: Layout
) -> Sample | tuple[str, Failure]:
    key = record.get(layout.key) if layout.key else None
    if key is not None:
        key = printable(str(key))
    value = record.get(layout.image)
    try:
        image = as_image(value, layout.image)
    except DatasetError as error:
        return str(number), Failure("missing_image", str(error))
    texts = _texts(record.get(layout.text))
    if isinstance(image, EmbeddedImage):
        data = image.image
        digest = hashlib.sha256(data).hexdigest()
        return Sample(str(number), key, f"sha256:{digest}", lambda: data, texts)
    address = _address(shard, image, layout)
    return Sample(str(number), key, address, lambda: read_bytes(address, MAX_FILE_BYTES), texts)


def _address(shard: Shard, image: str, layout: Layout) -> str:
    """Where the image of a row is: beside the shard, or in the folder that is named."""
    root = layout.image_root
    if root is None:
        root = (
            shard.address.rpartition("/")[0] if is_remote(shard.address) else str(Path(shard.address).parent)
        )
    if is_remote(root):
        there = f"{root.rstrip('/')}/{image.lstrip('/')}"
        kind, mark, path = there.partition("://")
        # no object store knows what .. means
        return kind + mark + posixpath.normpath(path) if ".." in path.split("/") else there
    return str(rooted(Path(root).expanduser(), image))
