"""Files that are not what they seem."""

from __future__ import annotations

import io
import json
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image


def encoded(kind: str, side: int = 16) -> bytes:
    """A small photograph-like picture as a file of `kind`."""
    values = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(values).save(buffer, kind)
    return buffer.getvalue()


def _png(width: int, height: int, *more: tuple[bytes, bytes], pixels: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), *more, (b"IDAT", zlib.compress(pixels)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def png_bomb(width: int, height: int) -> bytes:
    """A well-formed PNG header that promises `width` x `height` pixels, in a few dozen bytes."""
    return _png(width, height, pixels=b"\0" * 1000)


def png_profile(size: int) -> bytes:
    """A black PNG of one pixel with a colour profile of `size` bytes, compressed."""
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()
    return _png(1, 1, (b"iCCP", b"x\0\0" + packed), pixels=bytes(4))


def flipped(data: bytes, start: int) -> bytes:
    """`data` with its bytes from `start` on inverted."""
    return data[:start] + bytes(255 - byte for byte in data[start:])


def spoilt(model: Path, folder: Path, spoil: Callable[[Path], None]) -> Path:
    """A copy of `model` with one thing wrong."""
    copy = Path(shutil.copytree(model, folder / "model"))
    spoil(copy)
    return copy


def remove(name: str) -> Callable[[Path], None]:
    def spoil(model: Path) -> None:
        path = model / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return spoil


def write(name: str, data: bytes) -> Callable[[Path], None]:
    def spoil(model: Path) -> None:
        (model / name).write_bytes(data)

    return spoil


def cut(name: str) -> Callable[[Path], None]:
    def spoil(model: Path) -> None:
        path = model / name
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])

    return spoil


def field(name: str, **fields: object) -> Callable[[Path], None]:
    """Changes fields of a JSON file; None takes one away."""

    def spoil(model: Path) -> None:
        path = model / name
        found = json.loads(path.read_text())
        for key, value in fields.items():
            found.pop(key, None)
            if value is not None:
                found[key] = value
        path.write_text(json.dumps(found))

    return spoil


def weights(name: str, change: Callable[[dict[str, np.ndarray]], None]) -> Callable[[Path], None]:
    """Changes the tensors of a safetensors file."""

    def spoil(model: Path) -> None:
        from safetensors.numpy import load_file, save_file

        tensors = load_file(model / name)
        change(tensors)
        save_file(tensors, model / name)

    return spoil
