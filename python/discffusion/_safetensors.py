"""Files of named float64 arrays in the safetensors format: its library is not needed where the core is."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["pack", "unpack"]

#: bytes of the length of the header; the data start at a multiple of them
_WORD = 8


def pack(arrays: Mapping[str, NDArray[np.float64]], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a file."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    data = b""
    for name, array in arrays.items():
        start = len(data)
        data += np.ascontiguousarray(array, "<f8").tobytes()
        header[name] = {"dtype": "F64", "shape": list(array.shape), "data_offsets": [start, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _WORD)
    return len(text).to_bytes(_WORD, "little") + text + data


def unpack(data: bytes) -> tuple[dict[str, NDArray[np.float64]], dict[str, str]]:
    """Arrays by name, and the metadata, of the bytes of a file.

    Raises:
        ValueError: they are not those of a safetensors file of float64 arrays; says what is wrong.
    """
    length = int.from_bytes(data[:_WORD], "little")
    if len(data) < _WORD or length > len(data) - _WORD:
        raise ValueError("it is cut off, or no safetensors file")
    try:
        header = json.loads(data[_WORD : _WORD + length])
    except (ValueError, RecursionError):
        raise ValueError("its header is damaged, or it is no safetensors file") from None
    metadata = header.pop("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its header is damaged, or it is no safetensors file")
    content = data[_WORD + length :]
    arrays, end = {}, 0
    for name, entry in header.items():
        shape, start, stop = _place(name, entry)
        if start != end or stop > len(content):
            raise ValueError(f"it is cut off, or the place of the array {name!r} is wrong")
        arrays[name] = np.frombuffer(content[start:stop], "<f8").astype(np.float64).reshape(shape)
        end = stop
    if end != len(content):
        raise ValueError("it has more data than its header says")
    return arrays, metadata


def _place(name: str, entry: Any) -> tuple[list[int], int, int]:
    """Shape of an array, and where its bytes start and stop."""
    if not isinstance(entry, dict) or entry.get("dtype") != "F64":
        raise ValueError(f"the array {name!r} is not of float64")
    shape, offsets = _naturals(entry.get("shape")), _naturals(entry.get("data_offsets"))
    if shape is None or offsets is None or len(offsets) != 2:
        raise ValueError(f"the header does not say where the array {name!r} is")
    start, stop = offsets
    if stop - start != _WORD * math.prod(shape):
        raise ValueError(f"the array {name!r} has another size than its shape {shape}")
    return shape, start, stop


def _naturals(value: Any) -> list[int] | None:
    is_list = isinstance(value, list) and all(type(number) is int and number >= 0 for number in value)
    return value if is_list else None
