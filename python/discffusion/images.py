"""Everything a user may call an image, turned into what the core takes: an encoded file or uint8 pixels.

Nothing is fetched: a URL is an :class:`~discffusion.errors.ImageError`. Encoded files are passed on as they are and
decoded by the core, so that a path, its bytes and an open file of it give the same score; what the core does not know
(AVIF, HEIC, JPEG 2000, ICO, PPM, TIFF of YCbCr or Lab) is decoded by Pillow, see :mod:`discffusion._pillow`.

Two decoders differ where a format leaves them room: a JPEG as a path and the same JPEG opened with Pillow differ by a
few of 255 levels in single pixels, and scores by about 1e-5 of their size; PNG, WebP, TIFF and GIF are equal to the
bit. An encoded file that lacks its last bytes is an error. An image object is taken as its owner decoded it: with
``PIL.ImageFile.LOAD_TRUNCATED_IMAGES`` Pillow fills up what is missing, and nothing tells it from a whole one.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

from discffusion._warning import warn
from discffusion.errors import ImageError

if TYPE_CHECKING:
    import PIL.Image

__all__ = ["ImageLike", "Prepared", "is_single", "prepare", "prepare_many", "warn_of_gradient"]


class _File(Protocol):
    def read(self, size: int = -1, /) -> Any: ...


class _Tensor(Protocol):
    def detach(self) -> Any: ...


# path, encoded file, open file, image, array [H, W, C] or tensor [C, H, W]
ImageLike: TypeAlias = Union[
    str, "os.PathLike[str]", bytes, bytearray, memoryview, _File, "PIL.Image.Image", NDArray[Any], _Tensor
]
Prepared: TypeAlias = bytes | NDArray[np.uint8]

# Larger than any photograph; stops a mistyped name from filling the memory.
MAX_FILE_BYTES = 1 << 30
# what is asked of an open file at once, which need not have an end
_PIECE = 1 << 20
_CHANNELS = (1, 3, 4)
_ACCEPTED = "a path, bytes, an open file, a PIL image, a numpy array [H, W, C] or a torch tensor [C, H, W]"


def is_single(images: Any) -> bool:
    """Whether `images` is one image rather than several.

    Several are any iterable that is not an image itself, an array ``[N, H, W, C]`` or a tensor ``[N, C, H, W]``.
    """
    if isinstance(images, np.ndarray):
        return images.ndim != 4 and images.dtype != np.object_
    if _is_tensor(images):
        return bool(images.ndim != 4)
    if isinstance(images, str | bytes | bytearray | memoryview | os.PathLike | Mapping | Set):
        return True
    if hasattr(images, "read") or _is_pil(images):
        return True
    return not isinstance(images, Iterable)


def prepare_many(images: Any) -> tuple[list[Prepared], list[int]]:
    """The distinct images of an iterable, prepared, and for every image the index of its preparation.

    The same path or the same object given twice is read once.
    """
    unique: list[Prepared] = []
    index: list[int] = []
    seen: dict[Any, int] = {}
    given = list(images)  # keeps the objects alive, so that no two share an id
    for position, image in enumerate(given):
        key = ("path", os.fspath(image)) if isinstance(image, str | os.PathLike) else ("object", id(image))
        if key not in seen:
            seen[key] = len(unique)
            try:
                unique.append(prepare(image))
            except ImageError as error:
                raise ImageError(f"image {position} of {len(given)}: {error}") from error.__cause__
        index.append(seen[key])
    return unique, index


def prepare(image: Any) -> Prepared:
    """One image as the core takes it: the bytes of an encoded file, or uint8 pixels ``[H, W, 3]`` (sRGB).

    Raises:
        ImageError: the message names what was given and what to do.
    """
    if isinstance(image, str | os.PathLike):
        return _not_empty(_read_path(image), f"the file {os.fspath(image)!r}")
    if isinstance(image, bytes | bytearray | memoryview):
        return _not_empty(bytes(image), "the bytes object")
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if _is_tensor(image):
        return _from_tensor(image)
    if _is_pil(image):
        return _from_pil(image)
    if hasattr(image, "read"):
        return _not_empty(_read_file(image), "the open file")
    raise ImageError(f"{type(image).__name__} is not an image; expected {_ACCEPTED}")


def _not_empty(data: bytes, what: str) -> bytes:
    if not data:
        raise ImageError(f"{what} is empty: expected an encoded image")
    return data


def _read_path(path: str | os.PathLike[str]) -> bytes:
    name = os.fspath(path)
    if not isinstance(name, str):
        raise ImageError(f"the path {name!r} is {type(name).__name__}; expected str")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://|data:", name):
        raise ImageError(
            f"{name[:200]!r} is a URL, and nothing is fetched: download it first and give its path"
        )
    try:
        file = Path(name).expanduser()
        if file.is_dir():
            raise ImageError(f"{name!r} is a folder; expected an image file")
        if not file.exists():
            raise ImageError(f"there is no file {name!r} (looked in {Path.cwd()})")
        if not file.is_file():
            raise ImageError(f"{name!r} is not a regular file; expected an image file")
        size = file.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ImageError(f"{name!r} has {size} bytes; an image file may have {MAX_FILE_BYTES} at most")
        return file.read_bytes()
    except ImageError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise ImageError(f"the file {name!r} cannot be read: {error}") from error


def _read_file(file: Any) -> bytes:
    data = bytearray()
    try:
        while len(data) <= MAX_FILE_BYTES and (part := file.read(_PIECE)):
            if isinstance(part, str):
                raise ImageError("the file is open in text mode; open it in binary mode: open(path, 'rb')")
            if not isinstance(part, bytes | bytearray | memoryview):
                raise ImageError(
                    f"read() of {type(file).__name__} gave {type(part).__name__}; expected bytes"
                )
            data += part
    except ImageError:
        raise
    except (OSError, ValueError) as error:
        raise ImageError(f"the open file cannot be read: {error}") from error
    if len(data) > MAX_FILE_BYTES:
        raise ImageError(f"the open file has more than {MAX_FILE_BYTES} bytes, the most for an image file")
    return bytes(data)


def _is_tensor(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach")


def _is_pil(value: Any) -> bool:
    module = sys.modules.get("PIL.Image")  # not imported: then no image can have been made
    return module is not None and isinstance(value, module.Image)


def warn_of_gradient(tensor: Any, what: str) -> None:
    """Says that nothing of what is computed from a tensor has a gradient, where its owner may count on one."""
    if tensor.requires_grad:
        warn(
            f"{what} is a tensor that requires a gradient, but no gradient flows back through this call: it is "
            "detached, and the result has no graph. Pass tensor.detach() if that is intended"
        )


def _from_tensor(tensor: Any) -> NDArray[np.uint8]:
    warn_of_gradient(tensor, "an image")
    values = tensor.detach().cpu()
    if values.is_floating_point():
        values = values.float()  # numpy has no bfloat16
    shape = tuple(values.shape)
    if len(shape) == 3:
        if shape[0] not in _CHANNELS:
            hint = "; it looks like [H, W, C]: use tensor.permute(2, 0, 1)" if shape[-1] in _CHANNELS else ""
            raise ImageError(f"a tensor of shape {shape} is not [C, H, W] with 1, 3 or 4 channels{hint}")
        values = values.permute(1, 2, 0)
    elif len(shape) != 2:
        raise ImageError(f"a tensor of shape {shape} is not one image; expected [C, H, W] or [H, W]")
    return _from_array(values.numpy())


def _from_array(array: NDArray[Any]) -> NDArray[np.uint8]:
    shape = array.shape
    if array.ndim not in (2, 3):
        raise ImageError(f"an array of shape {shape} is not one image; expected [H, W] or [H, W, C]")
    if array.size == 0:
        raise ImageError(f"an array of shape {shape} is empty; expected at least one pixel")
    if array.ndim == 3 and shape[2] not in _CHANNELS:
        hint = "; it looks like [C, H, W]: use array.transpose(1, 2, 0)" if shape[0] in _CHANNELS else ""
        raise ImageError(f"an array of shape {shape} is not [H, W, C] with 1, 3 or 4 channels{hint}")
    return _to_rgb(_to_uint8(array))


def _to_uint8(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise ImageError(
            f"an array of {array.dtype} is ambiguous; expected uint8 in [0, 255] or a float type in [0, 1]"
        )
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ImageError("a float image holds NaN or infinity; expected finite values in [0, 1]")
    if low < 0.0 or high > 1.0:
        hint = " (for values in [0, 255] use uint8; for [-1, 1] use (x + 1) / 2)"
        raise ImageError(f"a float image has values from {low:g} to {high:g}; expected [0, 1]{hint}")
    scaled: NDArray[np.uint8] = np.rint(array.astype(np.float32) * 255.0).astype(np.uint8)
    return scaled


def _to_rgb(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pixels ``[H, W]`` or ``[H, W, 1 | 3 | 4]`` as contiguous ``[H, W, 3]``, alpha laid over white."""
    if array.ndim == 2:
        array = array[:, :, None]
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    elif array.shape[2] == 4:
        alpha = array[:, :, 3:].astype(np.uint16)
        over = array[:, :, :3] * alpha + np.uint16(255) * (255 - alpha)  # at most 255 * 255: fits
        array = ((over.astype(np.uint32) + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(array)


def _from_pil(pil_image: PIL.Image.Image) -> NDArray[np.uint8]:
    from PIL import ImageOps

    if 0 in pil_image.size:
        raise ImageError(
            f"a PIL image of {pil_image.width} x {pil_image.height} is empty; expected at least one pixel"
        )
    try:
        pil_image = ImageOps.exif_transpose(pil_image)
        if pil_image.mode.startswith("I"):
            return _to_rgb(_from_16_bit(np.asarray(pil_image), pil_image.mode))
        if pil_image.mode == "F":
            return _from_array(np.asarray(pil_image))
        transparent = "A" in pil_image.mode or "a" in pil_image.mode or "transparency" in pil_image.info
        return _to_rgb(np.asarray(pil_image.convert("RGBA" if transparent else "RGB")))
    except ImageError:
        raise
    except (OSError, ValueError, SyntaxError, KeyError) as error:  # what Pillow's lazy decoders raise
        raise ImageError(f"the PIL image (mode {pil_image.mode}) cannot be read: {error}") from error


def _from_16_bit(values: NDArray[Any], mode: str) -> NDArray[np.uint8]:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ImageError(
            f"a PIL image of mode {mode} has values from {low} to {high}; expected 16 bits [0, 65535]"
        )
    scaled: NDArray[np.uint8] = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return scaled
