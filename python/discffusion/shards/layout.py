"""Where in a shard the images and the texts are."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from discffusion.errors import ConfigError

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """How a shard is read.

    Attributes:
        text_key: in tars, the extension of the captions.
        json_text_key: in tars, the field of ``.json`` members that holds the caption, instead of `text_key`.
        caption_lines: in tars, whether every line is a caption of its own.
        image: in tables, the column of images: paths, bytes of files, or structs of bytes and path.
        text: in tables, the column of texts: a text, or a list of them.
        key: in tables, a column that is copied to the rows, or None. Rows are told apart by their number.
        image_root: where relative paths start from: a folder or an address; None for that of the shard.
        allow_missing: read tars that lack the mark of their end, which may have been cut off between two files.
    """

    text_key: str = "txt"
    json_text_key: str | None = None
    caption_lines: bool = False
    image: str = "image"
    text: str = "text"
    key: str | None = None
    image_root: str | None = None
    allow_missing: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            kind: Any = bool if isinstance(field.default, bool) else str
            if not (isinstance(value, kind) or (value is None and field.default is None)) or value == "":
                raise ConfigError(f"{field.name} is {value!r}; expected {kind.__name__}")

    def about(self) -> dict[str, Any]:
        """What rows depend on: a place may move, and a shard that could not be read has no rows."""
        return {
            name: value for name, value in asdict(self).items() if name not in ("image_root", "allow_missing")
        }
