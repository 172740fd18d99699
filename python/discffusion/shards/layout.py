"""Where in a shard the images and the texts are."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from discffusion.data.samples import extensions
from discffusion.errors import ConfigError, DatasetError

__all__ = ["Layout"]

#: options that came later, as they were before they were options
_LATER = (("image_key", None),)


@dataclass(frozen=True)
class Layout:
    """How a shard is read.

    Attributes:
        image_key: in tars, the extension of the images, as ``input.jpg``, several as ``jpg;png``; None for those that
            are known, see :data:`discffusion.data.samples.IMAGE_KEYS`.
        text_key: in tars, the extension of the captions.
        json_text_key: in tars, the field of ``.json`` members that holds the caption, instead of `text_key`.
        caption_lines: in tars, whether every line is a caption of its own.
        image: in tables, the column of images: paths, bytes of files, or structs of bytes and path.
        text: in tables, the column of texts: a text, or a list of them.
        key: in tables, a column that is copied to the rows, or None. Rows are told apart by their number.
        image_root: where relative paths start from: a folder or an address; None for that of the shard.
        allow_missing: read tars that lack the mark of their end, which may have been cut off between two files.
    """

    image_key: str | None = None
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
            if field.name in ("image_key", "text_key") and value is not None:
                try:
                    endings = extensions(field.name, value)
                except DatasetError as error:
                    raise ConfigError(str(error)) from None
                if field.name == "text_key" and len(endings) > 1:
                    raise ConfigError(f"text_key is {value!r}; expected one extension, as 'txt'")

    def about(self) -> dict[str, Any]:
        """What rows depend on: a place may move, and a shard that could not be read has no rows."""
        return {
            name: value
            for name, value in asdict(self).items()
            if name not in ("image_root", "allow_missing") and (name, value) not in _LATER
        }
