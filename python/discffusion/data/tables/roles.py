"""Which columns of a table hold what, and the checked values of their cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from discffusion.data.left_out import NoImageError, NoTextError, is_blank
from discffusion.data.present import Locator, rooted
from discffusion.data.tables.cells import EmbeddedImage, Rows, as_image
from discffusion.errors import DatasetError, DatasetOptionError

__all__ = ["HINT", "Files", "Roles", "cell_images", "cell_label", "cell_name", "cell_texts", "keys"]

#: what is said where images are missing
HINT = "Paths in the table are absolute, or relative to its folder or to image_root="
_LABELS = {"1": True, "0": False, "true": True, "false": False, "1.0": True, "0.0": False}


class Roles(NamedTuple):
    """Names of columns. A cell holds one value, or a list of them where several are allowed.

    Attributes:
        image: images that the texts describe. Several columns of images and as many of texts: image 0 belongs to text
            0 and to no other.
        text: texts that describe the images.
        negative_texts: texts that do not describe the images; empty cells are passed over.
        negative_images: images that the texts do not describe; empty cells are passed over.
        label: whether image and text of the row match (1, 0, true, false); rows of one key make an item.
        key: name of the item; None for the number of the row.
        group: category that is reported separately.
        meta: further columns that are kept in the item's ``meta``.
    """

    image: tuple[str, ...]
    text: tuple[str, ...]
    negative_texts: tuple[str, ...] = ()
    negative_images: tuple[str, ...] = ()
    label: str | None = None
    key: str | None = None
    group: str | None = None
    meta: tuple[str, ...] = ()

    @classmethod
    def checked(cls, name: str, given: Mapping[str, Any]) -> Roles:
        """Roles as the user gave them: a name, several, or None.

        Raises:
            DatasetError: they are no names, or together make no items.
        """
        roles: dict[str, Any] = {}
        for role, value in given.items():
            several = [] if value is None else [value] if isinstance(value, str) else value
            if not isinstance(several, list | tuple) or not all(
                isinstance(one, str) and one for one in several
            ):
                raise DatasetOptionError(f"{name}: {role} is {value!r}; expected the name of a column")
            if role in ("label", "key", "group"):
                if len(several) > 1:
                    raise DatasetOptionError(f"{name}: {role} is {value!r}; expected one column")
                roles[role] = several[0] if several else None
            else:
                roles[role] = tuple(several)
        made = cls(**roles)
        if not made.image or not made.text:
            raise DatasetOptionError(f"{name}: image= and text= name at least one column each")
        if len(made.image) > 1 and len(made.text) > 1 and len(made.image) != len(made.text):
            raise DatasetOptionError(
                f"{name}: {len(made.image)} columns of images and {len(made.text)} of texts; with as many of one as of "
                "the other, each image belongs to the text at its place"
            )
        if made.negative_texts and made.negative_images:
            raise DatasetOptionError(
                f"{name}: with negative_texts and negative_images, nothing says whether those match each other; for "
                "images that have a text each, give as many columns of image= as of text="
            )
        if made.paired and (made.negative_texts or made.negative_images):
            raise DatasetOptionError(
                f"{name}: several columns of images and of texts take no further negatives"
            )
        if made.label and (
            made.negative_texts or made.negative_images or len(made.image) + len(made.text) > 2
        ):
            raise DatasetOptionError(
                f"{name}: label= is for one column of images, one of texts and no negatives"
            )
        return made

    @property
    def paired(self) -> bool:
        """Whether image 0 belongs to text 0 alone, and so on."""
        return len(self.image) == len(self.text) > 1

    @property
    def plain(self) -> bool:
        """Whether every image of a row matches every text of it."""
        return not (self.paired or self.label or self.negative_texts or self.negative_images)

    def columns(self) -> list[str]:
        """All of them, each once."""
        several = (*self.image, *self.text, *self.negative_texts, *self.negative_images, *self.meta)
        single = (column for column in (self.label, self.key, self.group) if column)
        return list(dict.fromkeys((*several, *single)))


class Files:
    """Images by path, absolute, from a home, or relative to a root, or by what a cell holds."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._locate = Locator(root, anywhere=True)
        self._found: dict[str, str | None] = {}

    def find(self, path: str) -> str | None:
        """Whether the file is there: any text, or None."""
        if path not in self._found:
            self._found[path] = self._locate(path)
        return self._found[path]

    def open(self, image: str | EmbeddedImage) -> tuple[Any, str]:
        """The image, and its reference."""
        if isinstance(image, EmbeddedImage):
            return image.image, image.reference()
        return rooted(self._root, image), Path(image).as_posix()


def cell_images(
    cells: Mapping[str, Any], column: str, where: str, optional: bool = False
) -> list[str | EmbeddedImage]:
    """The images of a cell."""
    value = cells[column]
    values = value if isinstance(value, list | tuple) else [value]
    what = f"{where}: {column}"
    images = [as_image(one, what) for one in values if not (optional and is_blank(one))]
    if not images and not optional:
        raise NoImageError(f"{what} is an empty list; expected an image")
    return images


def cell_texts(cells: Mapping[str, Any], column: str, where: str, optional: bool = False) -> list[str]:
    """The texts of a cell; in a list, blanks beside texts are passed over.

    Raises:
        NoTextError: there is none, and that is not `optional`.
        DatasetError: the cell holds something else.
    """
    value = cells[column]
    texts = [one for one in (value if isinstance(value, list | tuple) else [value]) if not is_blank(one)]
    for text in texts:
        if not isinstance(text, str):
            raise DatasetError(
                f"{where}: {column} is {type(text).__name__} {str(text)[:40]!r}; expected a text"
            )
    if not texts and not optional:
        said = "an empty list" if isinstance(value, list | tuple) and not value else "empty"
        raise NoTextError(f"{where}: {column} is {said}; expected a text")
    return texts


def cell_label(cells: Mapping[str, Any], column: str, where: str) -> bool:
    """Whether the row's image and text match."""
    label = _LABELS.get(str(cells[column]).strip().lower())
    if label is None:
        raise DatasetError(f"{where}: {column} is {str(cells[column])[:40]!r}; expected 1, 0, true or false")
    return label


def cell_name(cells: Mapping[str, Any], column: str, where: str) -> str | None:
    """A key or group, as text; None where the cell is empty."""
    value = cells[column]
    if is_blank(value):
        return None
    if not isinstance(value, str | int | float):
        raise DatasetError(f"{where}: {column} is {type(value).__name__}; expected a text or a number")
    return str(value).strip()


def keys(
    rows: Rows, roles: Roles, unique: bool
) -> Iterator[tuple[int, Mapping[str, Any], str, str, str | None]]:
    """Number, cells, place, key and group of every row, with the pixels left out of the cells.

    Args:
        unique: whether two rows of one key are an error.
    """
    seen: dict[str, int] = {}
    for number, cells in enumerate(rows.scan()):
        where = rows.where(number)
        key = cell_name(cells, roles.key, where) if roles.key else str(number)
        if not key:
            raise DatasetError(f"{where}: {roles.key} is empty; expected a key")
        if unique and key in seen:
            raise DatasetError(f"{where}: the key {key!r} occurs in {rows.where(seen[key])} already")
        seen[key] = number
        yield number, cells, where, key, cell_name(cells, roles.group, where) if roles.group else None
