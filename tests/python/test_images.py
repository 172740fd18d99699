"""Everything that may be called an image."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from discffusion.errors import ImageError
from discffusion.images import is_single, prepare, prepare_many


def png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def test_encoded_images_pass_unchanged(picture: np.ndarray, tmp_path: Path) -> None:
    data = png(picture)
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    for given in (path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data)):
        assert prepare(given) == data
    with path.open("rb") as file:
        assert prepare(file) == data


def test_pixels_are_contiguous_rgb(picture: np.ndarray) -> None:
    tensor = torch.from_numpy(picture).permute(2, 0, 1)
    flipped = np.asfortranarray(picture)
    same = [
        picture,
        flipped,
        picture / 255.0,
        (picture / 255).astype(np.float32),
        PIL.Image.fromarray(picture),
    ]
    same += [tensor, tensor / 255, (tensor / 255).double(), tensor.float().div(255).requires_grad_()]
    for given in same:
        found = prepare(given)
        assert isinstance(found, np.ndarray)
        assert found.dtype == np.uint8
        assert found.flags.c_contiguous
        assert (found == picture).all(), type(given)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_tensors(dtype: torch.dtype) -> None:
    found = prepare(torch.tensor([[[0.0, 0.5, 1.0]]], dtype=dtype))
    assert isinstance(found, np.ndarray)
    assert found[0, :, 0].tolist() == [0, 128, 255]


def test_grey_is_repeated(picture: np.ndarray) -> None:
    grey = picture[:, :, 0]
    for given in (grey, grey[:, :, None], torch.from_numpy(grey), torch.from_numpy(grey)[None]):
        found = prepare(given)
        assert isinstance(found, np.ndarray)
        assert (found == grey[:, :, None]).all()
        assert found.shape == picture.shape


def test_alpha_lies_over_white(picture: np.ndarray) -> None:
    alpha = np.full(picture.shape[:2], 51, np.uint8)  # a fifth
    found = prepare(np.dstack([picture, alpha]))
    assert isinstance(found, np.ndarray)
    assert np.abs(found - (picture * 0.2 + 255 * 0.8)).max() <= 0.5
    assert (prepare(np.dstack([picture, alpha * 0 + 255])) == picture).all()
    assert (prepare(np.dstack([picture, alpha * 0])) == np.full_like(picture, 255)).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB"])
def test_pil_modes(picture: np.ndarray, mode: str) -> None:
    image = PIL.Image.fromarray(picture)
    image = image.convert("RGB").convert("L").convert(mode) if mode in ("1", "PA") else image.convert(mode)
    found = prepare(image)
    assert isinstance(found, np.ndarray)
    assert found.shape == picture.shape


def test_pil_transparent_palette() -> None:
    image = PIL.Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    image.info["transparency"] = 1
    found = prepare(image)
    assert isinstance(found, np.ndarray)
    assert found.tolist() == [[[255, 0, 0], [255, 255, 255]]]


def test_pil_sixteen_bits() -> None:
    values = np.array([[0, 128, 257, 32896, 65535]], np.uint16)
    for image in (PIL.Image.fromarray(values), PIL.Image.fromarray(values.astype(np.int32))):
        found = prepare(image)
        assert isinstance(found, np.ndarray)
        assert found[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_pil_exif_orientation(picture: np.ndarray) -> None:
    image = PIL.Image.fromarray(picture)
    image.getexif()[0x0112] = 6  # to be turned by a quarter, clockwise
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=image.getexif())
    found = prepare(PIL.Image.open(buffer))
    assert isinstance(found, np.ndarray)
    assert (found == np.rot90(picture, -1)).all()


def test_truncated_pil_image(picture: np.ndarray) -> None:
    data = png(picture)
    with pytest.raises(ImageError, match="cannot be read"):
        prepare(PIL.Image.open(io.BytesIO(data[: len(data) // 2])))


def test_one_or_several(picture: np.ndarray) -> None:
    one: list[Any] = ["a.png", Path("a.png"), b"x", io.BytesIO(b"x"), PIL.Image.fromarray(picture)]
    one += [picture, picture[:, :, 0], torch.from_numpy(picture), 3, None, {"a": 1}]
    assert all(is_single(image) for image in one)
    several: list[Any] = [[], ["a.png"], (picture,), iter([picture]), picture[None], torch.zeros(1, 3, 4, 4)]
    assert not any(is_single(images) for images in several)


def test_the_same_image_is_prepared_once(picture: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(picture))
    other = picture.copy()
    unique, index = prepare_many([picture, path, str(path), other, picture])
    assert len(unique) == 3
    assert index == [0, 1, 1, 2, 0]


def test_an_error_says_which_image(picture: np.ndarray) -> None:
    with pytest.raises(ImageError, match=r"image 1 of 2: int is not an image"):
        prepare_many([picture, 3])
