"""Decoding and resampling against Pillow, on scikit-image's photographs."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageOps

from discffusion import _native
from discffusion.errors import ConfigError, ImageError

_core = _native.core()

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "camera", "coins")
# JPEG decoders differ in the inverse transform and in how they blow up the colour planes (4:2:0).
JPEG_MEAN, JPEG_MAX = 0.3, 8


@cache
def photograph(name: str) -> Image.Image:
    return Image.fromarray(getattr(skimage.data, name)())


@cache
def small() -> Image.Image:
    return photograph("astronaut").resize((200, 150))


def save(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def on_white(image: Image.Image) -> np.ndarray:
    image = image.convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))


def assert_near(ours: np.ndarray, theirs: np.ndarray, mean: float, largest: int, what: str) -> None:
    """Bounds the mean and the largest difference, of 255."""
    assert ours.shape == theirs.shape, what
    assert ours.dtype == theirs.dtype == np.uint8, what
    difference = np.abs(ours.astype(int) - theirs.astype(int))
    assert difference.mean() <= mean, what
    assert difference.max() <= largest, what


def cropped(image: Image.Image, side: int) -> Image.Image:
    """The shorter side to `side`, then the middle, with torchvision's rounding."""
    width, height = image.size
    size = (side, side * height // width) if width <= height else (side * width // height, side)
    left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
    return image.resize(size, Image.BICUBIC).crop((left, top, left + side, top + side))


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_resampling_is_pillows_to_the_last_bit(name: str) -> None:
    image = photograph(name).convert("RGB")
    pixels = np.asarray(image)
    for width, height in [(512, 512), (224, 224), (64, 64), (768, 512), (7, 3), (33, 300)]:
        expected = np.asarray(image.resize((width, height), Image.BICUBIC))
        np.testing.assert_array_equal(_core.preprocess_image(pixels, height, width, None, "squash"), expected)
    expected = np.asarray(image.resize((128, 128), Image.BICUBIC).resize((512, 512), Image.BICUBIC))
    np.testing.assert_array_equal(_core.preprocess_image(pixels, 512, 512, 128, "squash"), expected)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_cropping_is_torchvisions(name: str) -> None:
    image = photograph(name).convert("RGB")
    pixels = np.asarray(image)
    for side in (512, 224, 65):
        ours = _core.preprocess_image(pixels, side, side, None, "crop")
        np.testing.assert_array_equal(ours, np.asarray(cropped(image, side)))
    expected = np.asarray(cropped(cropped(image, 101), 129))
    np.testing.assert_array_equal(_core.preprocess_image(pixels, 129, 129, 101, "crop"), expected)


def test_views_of_arrays_are_read_as_they_look() -> None:
    pixels = np.asarray(small())
    expected = np.ascontiguousarray(pixels[::-1, ::2])
    np.testing.assert_array_equal(
        _core.preprocess_image(pixels[::-1, ::2], 32, 32, None, "squash"),
        _core.preprocess_image(expected, 32, 32, None, "squash"),
    )


@pytest.mark.parametrize(
    ("kind", "modes", "options"),
    [
        ("PNG", "RGB L P 1", {}),
        ("BMP", "RGB L P 1", {}),
        ("GIF", "RGB L P 1", {}),
        ("TIFF", "RGB L 1 CMYK", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("TIFF", "RGB", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", "RGB", {"compression": "packbits"}),
        ("WebP", "RGB", {"lossless": True}),
        ("WebP", "RGB", {"quality": 80}),
    ],
)
def test_other_formats_are_decoded_exactly(kind: str, modes: str, options: dict[str, Any]) -> None:
    for mode in modes.split():
        data = save(small().convert(mode), kind, **options)
        np.testing.assert_array_equal(_core.decode_image(data), pillow(data), err_msg=mode)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "rocket"])
def test_jpeg_is_decoded_nearly_so(name: str) -> None:
    image = photograph(name)
    variants: list[dict[str, Any]] = [
        {"quality": quality, "subsampling": s} for quality in (50, 95) for s in range(3)
    ]
    for options in [*variants, {"progressive": True}, {"restart_marker_rows": 1}, {"keep_rgb": True}]:
        data = save(image, "JPEG", **options)
        assert_near(_core.decode_image(data), pillow(data), JPEG_MEAN, JPEG_MAX, str(options))


def test_grey_and_cmyk_jpeg_within_one() -> None:
    for mode in ("L", "CMYK"):
        data = save(photograph("coffee").convert(mode), "JPEG", quality=95)
        assert_near(_core.decode_image(data), pillow(data), 0.02, 1, mode)


def test_transparent_images_lie_on_white() -> None:
    image = small().convert("RGBA")
    image.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 200).astype(np.uint8), (150, 1))))
    for kind, mode, options in [
        ("PNG", "RGBA", {}),
        ("PNG", "LA", {}),
        ("TIFF", "RGBA", {}),
        ("WebP", "RGBA", {"lossless": True, "exact": True}),
    ]:
        data = save(image.convert(mode), kind, **options)
        assert_near(_core.decode_image(data), on_white(image.convert(mode)), 1, 1, f"{kind} {mode}")
    for kind in ("PNG", "GIF"):
        data = save(small().convert("P"), kind, transparency=3)
        assert_near(_core.decode_image(data), on_white(Image.open(io.BytesIO(data))), 1, 1, kind)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_samples_are_scaled(kind: str) -> None:
    levels = (np.arange(200 * 300) % 65536).astype(np.uint16).reshape(200, 300)
    expected = np.repeat(np.round(levels / 257).astype(np.uint8)[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(_core.decode_image(save(Image.fromarray(levels), kind)), expected)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WebP"])
def test_exif_orientations(kind: str) -> None:
    options: dict[str, Any] = {"quality": 95} if kind == "JPEG" else {"lossless": True}
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x112] = orientation
        data = save(small(), kind, exif=exif, **options)
        upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
        bounds = (JPEG_MEAN, JPEG_MAX) if kind == "JPEG" else (0, 0)
        assert_near(_core.decode_image(data), upright, *bounds, str(orientation))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WebP"])
def test_the_first_frame_of_an_animation(kind: str) -> None:
    lossless: dict[str, Any] = {"lossless": True} if kind == "WebP" else {}
    data = save(small(), kind, save_all=True, append_images=[ImageOps.mirror(small())], **lossless)
    np.testing.assert_array_equal(_core.decode_image(data), pillow(data))


@pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "PNG", "TIFF", "WebP"])
def test_truncated_files_are_refused(kind: str) -> None:
    data = save(small(), kind)
    for share in (0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99):
        with pytest.raises(ImageError):
            _core.decode_image(data[: int(len(data) * share)])


def test_enormous_and_impossible_images_are_refused() -> None:
    side = 14_000  # 196 million pixels, more than Pillow lets through
    data = save(Image.new("1", (side, side)), "PNG")
    with pytest.raises(ImageError, match="14000 x 14000"):
        _core.decode_image(data)
    with pytest.raises(ImageError, match="expected BMP, GIF, JPEG, PNG, TIFF or WebP"):
        _core.decode_image(b"no image")
    with pytest.raises(ConfigError, match="height=0"):
        _core.preprocess_image(np.zeros((4, 4, 3), np.uint8), 0, 8, None, "squash")
    with pytest.raises(ImageError):
        _core.preprocess_image(np.zeros((0, 4, 3), np.uint8), 8, 8, None, "squash")
