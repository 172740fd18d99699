"""Pickles of plain data: as Python's own unpickler reads them, and nothing else is read or run."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.python.data.published_files import python2_pickle, ref

from discffusion.data.archives.refs_pickle import read_plain_pickle
from discffusion.errors import DatasetError


def read(tmp_path: Path, data: bytes) -> Any:
    path = tmp_path / "refs(umd).p"
    path.write_bytes(data)
    return read_plain_pickle(path)


PLAIN = [
    {
        "a": [1, -2, 2**40, -(2**70), 1.5, float("inf"), None, True, False],
        "b": (),
        "c": ((1,), (1, 2), (1, 2, 3)),
    },
    {"x": (1, 2, 3, 4), 5: "five", "long": "x" * 300, "empty": [{}, [], ""], "many": list(range(1500))},
    [ref(1, 2, "train", ["the café", 'it\'s "quoted"\tand\\tabbed\n', "naïve ÿ"])] * 2,
    {"wide": {str(number): number for number in range(1200)}},
    "☃ outside latin",
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("value", PLAIN, ids=range(len(PLAIN)))
def test_every_protocol_reads_as_python_reads_it(tmp_path: Path, value: Any, protocol: int) -> None:
    assert read(tmp_path, pickle.dumps(value, protocol)) == value


ATOMS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner)
    ),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(value=VALUES, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_random_values_come_back(tmp_path_factory: pytest.TempPathFactory, value: Any, protocol: int) -> None:
    assert repr(read(tmp_path_factory.getbasetemp(), pickle.dumps(value, protocol))) == repr(value)


def test_python_2_byte_strings_are_latin_1(tmp_path: Path) -> None:
    refs = [
        ref(7, 3, "val", ["caf\xe9", 'it\'s "here"', "a\\b\nc"]),
        {"n": 2**33, "x": 0.25, "t": (1, None, True)},
    ]
    data = python2_pickle(refs)
    assert b"S'caf\\xe9'" in data and b"L8589934592L" in data
    # the standard library agrees with the bytes, so they are a pickle
    assert pickle.loads(data, encoding="latin1") == refs
    assert read(tmp_path, data) == refs


def test_python_2_binary_protocol(tmp_path: Path) -> None:
    # what cPickle of Python 2.7 writes at protocol 2 for [{'raw': 'caf\xe9', 'ref_id': 70000L}, u'\xe9', 'x' * 300]
    data = b"\x80\x02]q\x01(}q\x02(U\x03rawq\x03U\x04caf\xe9U\x06ref_idq\x04\x8a\x03p\x11\x01u"
    data += b"X\x02\x00\x00\x00\xc3\xa9q\x05"
    data += b"T\x2c\x01\x00\x00" + b"x" * 300 + b"q\x06e."
    expected = [{"raw": "caf\xe9", "ref_id": 70000}, "\xe9", "x" * 300]
    assert pickle.loads(data, encoding="latin1") == expected
    assert read(tmp_path, data) == expected


class Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.target}",)


class Slotted:
    def __init__(self) -> None:
        self.x = 1


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_wants_to_run_something_is_refused(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "owned"
    with pytest.raises(
        DatasetError, match=r"refs\(umd\)\.p, byte \d+: .*asks for \w*GLOBAL.*nothing of it was run"
    ):
        read(tmp_path, pickle.dumps([{"ref_id": 1}, Evil(target)], protocol))
    assert not target.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(S'touch TARGET'\ntR.",
        b"(S'touch TARGET'\nios\nsystem\n.",  # INST
        b"\x80\x02(cos\nsystem\nS'touch TARGET'\no.",  # OBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0ctouch TARGET\x85R.",
        b"(dp0\nS'raw'\nS'x'\nsc__builtin__\neval\n(S'open(\"TARGET\",\"w\")'\ntRs.",
        b"\x80\x02\x82\x01.",  # EXT1
        b"\x80\x02U\x01xQ.",  # persistent id
        b"Pabc\n.",
        b"\x80\x02]}b.",  # BUILD
        b"\x80\x02)\x81.",  # NEWOBJ
        b"\x80\x05\x97.",  # out-of-band buffer
        b"\x80\x04\x8f.",  # a set
        b"\x80\x03C\x01x.",  # bytes, which Python 2 did not have
        b"\x80\x05\x96\x01\x00\x00\x00\x00\x00\x00\x00x.",
    ],
)
def test_opcodes_that_plain_data_does_not_need_are_refused(tmp_path: Path, data: bytes) -> None:
    target = tmp_path / "owned"
    with pytest.raises(DatasetError, match=r"byte \d+: not a pickle of plain data: it asks for [A-Z0-9_]+,"):
        read(tmp_path, data.replace(b"TARGET", str(target).encode()))
    assert not target.exists()


@pytest.mark.parametrize("value", [Slotted(), OrderedDict(a=1), np.float32(1), np.zeros(3), {1, 2}, b"x", 1j])
def test_classes_are_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(DatasetError, match="byte"):
        read(tmp_path, pickle.dumps([value], 2))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b"<html>Not found</html>", "there is no opcode"),
        (b"\x80\x02]q\x00(K\x01", "it is truncated"),
        (b"(lp0\nS'abc", "it is truncated"),
        (b"S'abc\np0\n.", "without its quotes"),
        (b"Inine\n.", "ValueError"),
        (b"g7\n.", "KeyError"),
        (b"a.", "IndexError"),
        (b"e.", "IndexError"),
        (b"K\x01K\x02a.", "adds to a int as to a list"),
        (b"]K\x01K\x02s.", "adds to a list as to a dict"),
        (b"(K\x01d.", "key without a value"),
        (b"(K\x01.", "ends within a value"),
        (b".", "ends within a value"),
        (b"K\x01K\x02.", "ends within a value"),
        (b"}](K\x01K\x02eK\x01s.", "a key is a list"),
        (b"})K\x01s.", "a key is a tuple"),
        (b"\x80\x02X\xff\xff\xff\x7fabc.", "it is truncated"),
        (b"\x80\x02T\xff\xff\xff\xffabc.", "it is truncated"),
        (b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc.", "it is truncated"),
        (b"\x80\x02X\x02\x00\x00\x00\xff\xfe.", "UnicodeDecodeError"),
    ],
)
def test_damaged_files(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(DatasetError, match=rf"refs\(umd\)\.p.*{why}"):
        read(tmp_path, data)


def test_bombs_do_no_harm(tmp_path: Path) -> None:
    # a memo index that makes the standard library's unpickler ask for 32 gigabytes
    assert read(tmp_path, b"\x80\x02]r\xff\xff\xff\xff.") == []
    deep = read(tmp_path, b"]" * 100_000 + b"a" * 99_999 + b".")
    assert isinstance(deep, list) and len(deep) == 1


def test_a_cut_anywhere_is_noticed(tmp_path: Path) -> None:
    data = python2_pickle([ref(1, 2, "train", ["a dog"])])
    for length in range(len(data)):
        with pytest.raises(DatasetError):
            read(tmp_path, data[:length])


def test_a_folder_or_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.p"):
        with pytest.raises(DatasetError, match="cannot be read"):
            read_plain_pickle(path)
