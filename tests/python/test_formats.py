"""Images of formats that the core has no decoder for: as a path, as bytes and as an open file, by Pillow's decoders."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, features

from discffusion import ImageError, Scorer, _native, _pillow
from discffusion.images import prepare

TEXT = "a red circle"


@pytest.fixture
def drawn() -> Image.Image:
    """48 × 32 pixels, with a gradient in each channel."""
    rows, columns = np.mgrid[0:32, 0:48]
    return Image.fromarray(np.stack([rows * 7, columns * 5, (rows + columns) * 3], axis=2).astype(np.uint8))


def saved(picture: Image.Image, form: str, **options: object) -> bytes:
    data = io.BytesIO()
    picture.save(data, form, **options)
    return data.getvalue()


def lab(picture: Image.Image) -> Image.Image:
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    made = ImageCms.profileToProfile(picture, *profiles, outputMode="LAB")
    assert made is not None
    return made


FORMS: dict[str, Callable[[Image.Image], bytes]] = {
    "AVIF": lambda picture: saved(picture, "AVIF", quality=90),
    "JPEG 2000": lambda picture: saved(picture, "JPEG2000"),
    "JPEG 2000, a bare stream": lambda picture: saved(picture, "JPEG2000", no_jp2=True),
    "ICO": lambda picture: saved(picture, "ICO", sizes=[(48, 32)]),
    "PPM": lambda picture: saved(picture, "PPM"),
    "PGM": lambda picture: saved(picture.convert("L"), "PPM"),
    "PGM of 16 bit": lambda picture: saved(
        Image.fromarray(np.asarray(picture.convert("L")).astype("u2") * 257), "PPM"
    ),
    "TIFF of YCbCr": lambda picture: saved(picture.convert("YCbCr"), "TIFF", compression="tiff_lzw"),
    "TIFF of Lab": lambda picture: saved(lab(picture), "TIFF"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_way_gives_what_pillow_gives(
    form: str, drawn: Image.Image, scorer: Scorer, tmp_path: Path
) -> None:
    if form == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    data = FORMS[form](drawn)
    path = tmp_path / "picture.bin"  # the name says nothing
    path.write_bytes(data)
    expected = np.asarray(prepare(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(_native.core().decode_image(data), expected)
    score = scorer.score(Image.open(path), TEXT)
    assert (
        scorer.score(path, TEXT) == scorer.score(data, TEXT) == scorer.score(io.BytesIO(data), TEXT) == score
    )
    np.testing.assert_array_equal(scorer.explain(path, TEXT).image, expected)
    # the colours survive: what is decoded is the picture that was drawn
    near = np.abs(
        expected.astype(int) - np.asarray(drawn.convert("L").convert("RGB") if "PGM" in form else drawn)
    )
    assert near.mean() < 4


def test_orientation_and_alpha(drawn: Image.Image) -> None:
    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = _native.core().decode_image(saved(drawn, "AVIF", exif=exif.tobytes()))
    assert turned.shape == (48, 32, 3)
    clear = drawn.convert("RGBA")
    clear.putalpha(0)
    assert (_native.core().decode_image(saved(clear, "ICO", sizes=[(48, 32)])) == 255).all()  # over white


@pytest.mark.parametrize(
    ("start", "name", "remedy"),
    [
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1heic", "HEIC", "pip install pillow-heif"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL", "pip install pillow-jxl-plugin"),
        (b"\xff\x0a\0\0", "JPEG XL", "pip install pillow-jxl-plugin"),
    ],
)
def test_what_nobody_decodes_says_what_to_install(
    start: bytes, name: str, remedy: str, scorer: Scorer
) -> None:
    with pytest.raises(ImageError, match=f"the image is {name}, and no decoder of it is installed: {remedy}"):
        scorer.score(start + bytes(64), TEXT)
    with pytest.raises(ImageError, match="no image known here; expected BMP, GIF, JPEG, PNG, TIFF or WebP"):
        scorer.score(b"%PDF-1.7 no image", TEXT)


def test_formats_that_run_programs_are_not_opened(drawn: Image.Image) -> None:
    postscript = saved(drawn, "EPS")
    with pytest.raises(ImageError, match="no image known here"):
        _native.core().decode_image(postscript)


def test_sizes_are_bounded_before_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> None:
        raise AssertionError("pixels were asked for")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    for size in (b"30000 30000", b"2000000 1"):
        with pytest.raises(ImageError, match=r"pixels|exceeds limit"):
            _native.core().decode_image(b"P6\n" + size + b"\n255\n")


def test_an_icon_that_holds_another_size(drawn: Image.Image) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    icon = struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(bomb), 22) + bomb
    with pytest.raises(ImageError):
        _native.core().decode_image(icon)


@pytest.mark.parametrize("form", ["AVIF", "JPEG 2000", "PPM", "TIFF of YCbCr", "ICO"])
def test_damage_is_an_image_error(form: str, drawn: Image.Image) -> None:
    if form == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    data = FORMS[form](drawn)
    for share in (0.1, 0.5, 0.9)[
        : 2 if form == "ICO" else 3
    ]:  # of an icon the end mark alone would be missing
        with pytest.raises(ImageError):
            _native.core().decode_image(data[: int(len(data) * share)])


@pytest.mark.parametrize("lost", [2, 9, 0.1])
def test_a_cut_jpeg_is_an_error_however_it_is_read(lost: float, drawn: Image.Image, tmp_path: Path) -> None:
    data = saved(drawn, "JPEG", quality=95)
    cut = data[: len(data) - (int(lost * len(data)) if lost < 1 else int(lost))]
    (tmp_path / "cut.jpg").write_bytes(cut)
    for given in (tmp_path / "cut.jpg", cut, io.BytesIO(cut)):
        with pytest.raises(ImageError, match="truncated"):
            _native.core().decode_image(prepare(given))
    if lost > 2:  # the end marker alone is missing: Pillow has every pixel
        with pytest.raises(ImageError, match="truncated|cannot be read"):
            prepare(Image.open(io.BytesIO(cut)))


def test_bounds_are_those_of_the_core() -> None:
    with pytest.raises(ImageError, match=str(_pillow.MAX_PIXELS)):
        _native.core().decode_image(saved(Image.new("1", (1 << 14, 1 << 14)), "PNG"))
    with pytest.raises(ImageError, match=f"{_pillow.MAX_LENGTH:,} a side|{_pillow.MAX_LENGTH} a side"):
        _native.core().decode_image(saved(Image.new("1", ((1 << 20) + 1, 1)), "PNG"))
