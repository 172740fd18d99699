"""Pickles of plain data, read without Python's unpickler: nothing in a file can import or call anything.

The lists of referring expressions, ``refs(google).p`` and ``refs(umd).p``, are pickles of lists, dicts, strings and
numbers made by Python 2. This reader knows the opcodes that make such values and no others, so a file that wants a
class or a function is refused at the opcode that asks for it. Byte strings of Python 2 are read as Latin-1.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from discffusion.errors import DatasetError

__all__ = ["read_plain_pickle"]


_Action: TypeAlias = Callable[["_Machine"], object]


class _NotPlainError(Exception):
    """The bytes are no pickle of plain data; says why."""


def read_plain_pickle(path: Path) -> Any:
    """The value of a pickle of any protocol, made of None, bools, numbers, str, list, tuple and dict.

    Raises:
        DatasetError: the file cannot be read, is cut off or damaged, or asks for anything but plain data.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from None
    if not data:
        raise DatasetError(f"{path} is empty; expected a pickle")
    machine = _Machine(data)
    try:
        return machine.run()
    except _NotPlainError as error:
        reason = str(error)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        # a damaged file: a number that is none, a key that cannot be one, a value that was never stored
        reason = f"it is damaged ({type(error).__name__}: {error})"
    raise DatasetError(f"{path}, byte {machine.opcode_at}: not a pickle of plain data: {reason}")


class _Machine:
    """A stack machine for the part of the pickle format that makes plain data."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = self.opcode_at = 0
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # the stacks below the marks
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        data, size = self.data, len(self.data)
        actions = [_ACTIONS.get(bytes([opcode])) for opcode in range(256)]
        while True:
            self.opcode_at = self.at
            if self.at >= size:
                raise _NotPlainError("it is truncated")
            opcode = data[self.at]
            self.at += 1
            chosen = actions[opcode]
            if chosen is not None:
                chosen(self)
            elif opcode == ord(b"."):
                if self.outer or len(self.stack) != 1:
                    raise _NotPlainError("it is damaged (it ends within a value)")
                return self.stack[0]
            else:
                raise _NotPlainError(_explain(opcode))

    def take(self, count: int) -> bytes:
        end = self.at + count
        if count < 0 or end > len(self.data):
            raise _NotPlainError("it is truncated")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def number(self, kind: str) -> Any:
        return struct.unpack(kind, self.take(struct.calcsize(kind)))[0]

    def line(self) -> bytes:
        end = self.data.find(b"\n", self.at)
        if end < 0:
            raise _NotPlainError("it is truncated")
        taken = self.data[self.at : end]
        self.at = end + 1
        return taken

    def push(self, value: Any) -> None:
        # `stack` is looked up after the value was made, which may have ended a mark
        self.stack.append(value)

    def above_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.outer.pop()
        return items

    def last(self, kind: type[Any]) -> Any:
        """The value on top, which has to be a list or a dict to be added to."""
        value = self.stack[-1]
        if type(value) is not kind:
            raise _NotPlainError(f"it is damaged (adds to a {type(value).__name__} as to a {kind.__name__})")
        return value


def _explain(opcode: int) -> str:
    import pickletools  # large, and needed for this message alone

    for documented in pickletools.opcodes:
        if documented.code == chr(opcode):
            return f"it asks for {documented.name}, which plain data does not need; nothing of it was run"
    return f"there is no opcode {bytes([opcode])!r}"


def _integer(m: _Machine) -> None:
    text = m.line()
    m.stack.append(text == b"01" if text in (b"00", b"01") else int(text))


def _quoted(m: _Machine) -> None:
    text = m.line().strip()
    if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in b"'\"":
        raise _NotPlainError("it is damaged (a string without its quotes)")
    m.stack.append(codecs.escape_decode(text[1:-1])[0].decode("latin-1"))


def _append(m: _Machine) -> None:
    value = m.stack.pop()
    m.last(list).append(value)


def _extend(m: _Machine) -> None:
    values = m.above_mark()
    m.last(list).extend(values)


def _set(m: _Machine) -> None:
    value, key = m.stack.pop(), _key(m.stack.pop())
    m.last(dict)[key] = value


def _pairs(values: list[Any]) -> dict[Any, Any]:
    if len(values) % 2:
        raise _NotPlainError("it is damaged (a key without a value)")
    return dict(zip(map(_key, values[::2]), values[1::2], strict=True))


def _key(value: Any) -> str | int:
    # tuples can be keys, but hashing one nested a million deep would end the process
    if isinstance(value, str | int):
        return value
    raise _NotPlainError(f"a key is a {type(value).__name__}; expected a string or a whole number")


def _update(m: _Machine) -> None:
    values = m.above_mark()
    m.last(dict).update(_pairs(values))


def _tuple(count: int) -> _Action:
    return lambda m: m.push(tuple([m.stack.pop() for _ in range(count)][::-1]))


def _pop(m: _Machine) -> None:
    if m.stack:
        m.stack.pop()
    else:
        m.above_mark()  # nothing above a mark: the mark itself is taken back


def _open(m: _Machine) -> None:
    m.outer.append(m.stack)
    m.stack = []


def _long(kind: str) -> _Action:
    return lambda m: m.stack.append(int.from_bytes(m.take(m.number(kind)), "little", signed=True))


def _text(kind: str, encoding: str) -> _Action:
    return lambda m: m.stack.append(m.take(m.number(kind)).decode(encoding))


def _put(kind: str) -> _Action:
    return lambda m: m.memo.__setitem__(m.number(kind), m.stack[-1])


def _get(kind: str) -> _Action:
    return lambda m: m.push(m.memo[m.number(kind)])


_ACTIONS: dict[bytes, _Action] = {
    b"\x80": lambda m: m.take(1),  # the protocol: what is not known of a newer one is refused
    b"\x95": lambda m: m.take(8),  # the size of a frame: needed for reading piecewise only
    b"(": _open,
    b"0": _pop,
    b"1": lambda m: m.above_mark(),
    b"2": lambda m: m.stack.append(m.stack[-1]),
    b"N": lambda m: m.stack.append(None),
    b"\x88": lambda m: m.stack.append(True),
    b"\x89": lambda m: m.stack.append(False),
    b"I": _integer,
    b"L": lambda m: m.stack.append(int(m.line().removesuffix(b"L"))),
    b"J": lambda m: m.push(m.number("<i")),
    b"K": lambda m: m.push(m.number("<B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"\x8a": _long("<B"),
    b"\x8b": _long("<i"),
    b"F": lambda m: m.stack.append(float(m.line())),
    b"G": lambda m: m.push(m.number(">d")),
    b"S": _quoted,
    b"T": _text("<i", "latin-1"),
    b"U": _text("<B", "latin-1"),
    b"V": lambda m: m.stack.append(m.line().decode("raw-unicode-escape")),
    b"X": _text("<I", "utf-8"),
    b"\x8c": _text("<B", "utf-8"),
    b"\x8d": _text("<Q", "utf-8"),
    b"]": lambda m: m.stack.append([]),
    b"l": lambda m: m.push(m.above_mark()),
    b"a": _append,
    b"e": _extend,
    b"}": lambda m: m.stack.append({}),
    b"d": lambda m: m.push(_pairs(m.above_mark())),
    b"s": _set,
    b"u": _update,
    b")": lambda m: m.stack.append(()),
    b"t": lambda m: m.push(tuple(m.above_mark())),
    b"\x85": _tuple(1),
    b"\x86": _tuple(2),
    b"\x87": _tuple(3),
    b"p": lambda m: m.memo.__setitem__(int(m.line()), m.stack[-1]),
    b"q": _put("<B"),
    b"r": _put("<I"),
    b"\x94": lambda m: m.memo.__setitem__(len(m.memo), m.stack[-1]),
    b"g": lambda m: m.stack.append(m.memo[int(m.line())]),
    b"h": _get("<B"),
    b"j": _get("<I"),
}
