"""What a stranger may send, at random and on purpose: it ends in a typed error or in an answer, within bounds.

Damaged models and datasets, and pickles that want to run something, are in the files of their readers: here are
arbitrary bytes, numbers and texts, and files that are small and promise to be large.
"""

from __future__ import annotations

import dataclasses
import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.python import bad_files as bad
from tests.python.run_python import run_python

from discffusion import ConfigError, Deltas, DeltasError, ImageError, ScoreConfig, Scorer
from discffusion.images import prepare

OK = np.full((8, 8, 3), 100, np.uint8)
FILES = [bad.encoded(kind) for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP")]
#: the folder of a test is shared by its examples, and each writes the file anew
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def damaged(draw: st.DrawFn, files: list[bytes]) -> bytes:
    """A file with some bytes changed, moved or taken away."""
    data = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
    return bytes(data)


@quick
@given(data=st.binary(max_size=200) | damaged(FILES))
def test_bytes_as_an_image(data: bytes, scorer: Scorer) -> None:
    try:
        score = scorer.score(data, "a text")
    except ImageError:
        return
    assert np.isfinite(score)


ARRAYS = hnp.arrays(
    hnp.scalar_dtypes() | hnp.array_dtypes(max_size=2),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
)


@quick
@given(array=ARRAYS, transposed=st.booleans())
def test_arrays_as_an_image(array: np.ndarray, transposed: bool, scorer: Scorer) -> None:
    try:
        score = scorer.score(array.T if transposed else array, "a text")
    except ImageError:
        return
    assert np.isfinite(score)


@quick
@given(text=st.text(st.characters(exclude_categories=[]), max_size=200))
def test_texts(text: str, scorer: Scorer) -> None:
    cutting = scorer.with_config(truncate="silent")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        with pytest.raises(ConfigError, match="Unicode"):
            cutting.score(OK, text)
    else:
        assert np.isfinite(cutting.score(OK, text))


FIELDS = [field.name for field in dataclasses.fields(ScoreConfig)]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@settings(quick, max_examples=300)
@given(
    fields=st.dictionaries(
        st.sampled_from(FIELDS),
        VALUES,
        min_size=1,
        max_size=3,
    )
)
def test_options(fields: dict[str, Any]) -> None:
    try:
        config = ScoreConfig(**fields)
    except ConfigError:
        return
    assert ScoreConfig.from_json(config.to_json()) == config


@quick
@given(text=st.text(max_size=100) | VALUES.map(lambda value: json.dumps(value, default=repr)))
def test_options_as_json(text: str) -> None:
    try:
        config = ScoreConfig.from_json(text)
    except ConfigError:
        return
    assert ScoreConfig.from_json(config.to_json()) == config


def lora(name: str = "mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora") -> bytes:
    from safetensors.torch import save

    return save({f"{name}.down.weight": torch.zeros(2, 32), f"{name}.up.weight": torch.zeros(128, 2)})


def pickled() -> bytes:
    file = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, file)
    return file.getvalue()


@quick
@given(data=st.binary(max_size=300) | damaged([lora(), pickled()]))
def test_bytes_as_deltas(data: bytes, scorer: Scorer, tmp_path: Path) -> None:
    path = tmp_path / "deltas"
    path.write_bytes(data)
    try:
        deltas = Deltas.load(path, scorer)
    except DeltasError:
        return
    assert deltas.num_parameters > 0


@quick
@given(path=st.text(st.characters(exclude_categories=[]), max_size=50))
def test_paths_of_deltas_and_images(path: str, scorer: Scorer, tmp_path: Path) -> None:
    nowhere = f"{tmp_path}/none/{path}"
    with pytest.raises(DeltasError):
        Deltas.load(nowhere, scorer)
    with pytest.raises(ImageError):
        prepare(nowhere)


class Endless(io.RawIOBase):
    """A file without an end, which notes how much was read of it."""

    def __init__(self) -> None:
        self.size = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        assert size >= 0, "all of it was asked for"
        self.size += size
        return bytes(size)


def test_an_open_file_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discffusion.images.MAX_FILE_BYTES", 5 << 20)
    file = Endless()
    with pytest.raises(ImageError, match="more than 5242880 bytes"):
        prepare(file)
    assert file.size <= 6 << 20


def gif(width: int, height: int, frame: int) -> bytes:
    """A GIF of a colour table of two and one picture of `frame` x `frame`, without its pixels."""
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    return b"GIF89a" + screen + b"," + struct.pack("<HHHHB", 0, 0, frame, frame, 0) + b"\2\2\x4c\1\0;"


def webp(name: bytes, header: bytes) -> bytes:
    body = b"WEBP" + name + struct.pack("<I", len(header)) + header
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp(width: int, height: int) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header


def jpeg(width: int, height: int) -> bytes:
    data = bytearray(bad.encoded("JPEG"))
    at = data.index(b"\xff\xc0") + 5  # the start of a baseline frame, its length and its precision
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def tiff(width: int, height: int, strip: int = 10) -> bytes:
    """A deflated grey TIFF of one strip of `strip` bytes, which is not there."""
    fields = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 273: 8, 277: 1, 278: height, 279: strip}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields.items())
    return b"II*\0" + struct.pack("<IH", 8, len(fields)) + entries + bytes(4)


#: small files that promise much
BOMBS: dict[str, bytes] = {
    "png": bad.png_bomb(100_000, 100_000),
    "png, largest": bad.png_bomb(2**31 - 1, 2**31 - 1),
    "png, one row": bad.png_bomb(2**28, 1),
    "gif": gif(65_535, 65_535, 1),
    "gif, frame larger than its screen": gif(4, 4, 65_535),
    "webp, lossy": webp(b"VP8 ", b"\x10\0\0\x9d\x01\x2a" + struct.pack("<HH", 16_383, 16_383) + bytes(10)),
    "webp, lossless": webp(b"VP8L", b"\x2f" + struct.pack("<I", 16_383 | 16_383 << 14) + bytes(5)),
    "webp, extended": webp(b"VP8X", b"\0\0\0\0" + b"\xff\x7f\0" * 2),
    "bmp": bmp(100_000, 100_000),
    "bmp, from the top": bmp(60_000, -60_000),
    "bmp, largest": bmp(2**31 - 1, -(2**31)),
    "jpeg": jpeg(65_535, 65_535),
    "tiff": tiff(100_000, 100_000),
    "tiff, largest": tiff(2**32 - 1, 2**32 - 1),
    "tiff, strip": tiff(100, 100, 2**32 - 1),
}

_CHILD = r"""
import re
from pathlib import Path
from discffusion import ImageError, _native
decode = _native.core().decode_image

def peak():
    # not getrusage, which begins with the peak of the process that started this one
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text()).group(1)) // 1024

*refused, profile = sorted(Path(FOLDER).iterdir(), key=lambda path: path.name == "profile")
first = peak()
for path in refused:
    try:
        decode(path.read_bytes())
    except ImageError:
        continue
    print("decoded:", path.name)
second = peak()
decode(profile.read_bytes())
print(second - first, peak() - second)
"""


def test_image_bombs_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    for name, data in BOMBS.items():
        assert len(data) < 1000
        (tmp_path / name).write_bytes(data)
    (tmp_path / "profile").write_bytes(bad.png_profile(256 << 20))
    done = run_python(f"FOLDER = {str(tmp_path)!r}\n{_CHILD}")
    assert done.returncode == 0, done.stderr
    refused, profile = map(int, done.stdout.split())  # nothing was decoded
    assert refused < 16
    assert profile < 100
