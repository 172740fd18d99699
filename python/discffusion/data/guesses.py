"""What a text file probably is where it cannot be read as it was named: its encoding, or its delimiter."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterable, Sequence

from discffusion.errors import DatasetOptionError

__all__ = [
    "checked_delimiter",
    "checked_encoding",
    "is_wide",
    "likely_delimiter",
    "likely_encoding",
    "looks_like",
]

_DELIMITERS = {"\t": "tab", ";": "semicolon", ",": "comma", "|": "pipe"}
_START = 4096
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def checked_delimiter(given: object) -> str:
    r"""A delimiter as it was given; ``"tab"`` and ``"\t"`` as a shell passes them too.

    Raises:
        DatasetError: it is no single character.
    """
    given = {"tab": "\t", "\\t": "\t"}.get(given, given) if isinstance(given, str) else given
    if not isinstance(given, str) or len(given) != 1 or given in '\r\n"\0':
        raise DatasetOptionError(f"delimiter= is {given!r}; expected one character, as ';', or \"tab\"")
    return given


def checked_encoding(given: object) -> str:
    """The name of an encoding that is known.

    Raises:
        DatasetError: there is none of that name for text.
    """
    try:
        if isinstance(given, str) and codecs.lookup(given)._is_text_encoding:
            return given
    except (LookupError, ValueError):
        pass
    raise DatasetOptionError(
        f"encoding= is {given!r}; expected the name of an encoding, as 'utf-8' or 'cp1252'"
    )


def likely_encoding(data: bytes) -> str | None:
    """The encoding of bytes that are no UTF-8, as it is named in Python; None where it cannot be told."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            return name
    if is_wide(data):
        # letters of most scripts have a zero byte each, and which half of the pair it is tells the order
        start = data[:_START]
        return "utf-16-le" if start[1::2].count(0) > start[::2].count(0) else "utf-16-be"
    # letters with accents stand alone among plain ones; of Cyrillic, Greek, Chinese or Japanese all bytes are high
    high = re.findall(rb"[\x80-\xff]+", data)
    together = sum(len(run) for run in high if len(run) > 1)
    try:
        data.decode("cp1252")
    except UnicodeDecodeError:
        return None
    return None if 2 * together > sum(map(len, high)) else "cp1252"


def is_wide(data: bytes) -> bool:
    """Whether bytes are text of two bytes a letter, which may be valid UTF-8 too."""
    start = data[:_START]
    return start.count(0) > len(start) // 4


def looks_like(encoding: str | None, hint: str) -> str:
    """What is said of an encoding, as users know it, and what to do.

    Args:
        hint: ``{}`` stands for the encoding as Python names it.
    """
    if encoding is None:
        return "; " + hint.format("'cp1251', 'gb18030', 'shift_jis' or whichever it is")
    return f"; it looks like {'Windows-1252' if encoding == 'cp1252' else encoding.upper()}: " + hint.format(
        repr(encoding)
    )


def likely_delimiter(line: str, columns: Iterable[str], used: str) -> tuple[str, str] | None:
    """A delimiter, and its name in words, under which the first line of a file has these columns.

    Args:
        used: the delimiter that did not.
    """
    wanted = set(columns)
    for delimiter, name in _DELIMITERS.items():
        if delimiter != used and wanted <= set(_cells(line, delimiter)):
            return delimiter, name
    # the columns may be misspelt besides
    counts = {delimiter: len(_cells(line, delimiter)) for delimiter in _DELIMITERS}
    most = max(counts, key=lambda delimiter: counts[delimiter])
    if counts[used if used in counts else ","] == 1 and counts[most] > 1:
        return most, _DELIMITERS[most]
    return None


def _cells(line: str, delimiter: str) -> Sequence[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:
        return []
