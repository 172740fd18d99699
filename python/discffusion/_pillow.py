"""Encoded images that the core's decoders do not know, decoded by Pillow under the same bounds.

The core calls :func:`decode` for a format or a kind of one that it lacks, and for nothing else: a damaged file that it
knows stays an error.
"""

from __future__ import annotations

import importlib
import io
import re
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion.errors import DiscffusionError, ImageError, OutOfMemoryError

__all__ = ["MAX_LENGTH", "MAX_PIXELS", "decode"]

#: as in the core, where the reasons stand
MAX_PIXELS = 178_956_970
MAX_LENGTH = 1 << 20
#: what is decoded here: formats that run no other program and tell themselves by their first bytes
_FORMATS = ("AVIF", "HEIF", "JPEG2000", "JXL", "ICO", "PPM", "TIFF", "JPEG", "PNG", "BMP", "GIF", "WEBP")
#: format -> its first bytes, what decodes it
_KNOWN = (
    ("AVIF", rb"....ftypavi[fs]", 'pip install "pillow>=11.3"'),
    ("HEIC", rb"....ftyp(hei[cxms]|hev[cxms]|mif1|msf1)", "pip install pillow-heif"),
    (
        "JPEG 2000",
        rb"\x00\x00\x00\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
        "a Pillow that is built with OpenJPEG",
    ),
    ("JPEG XL", rb"\xff\x0a|\x00\x00\x00\x0cJXL \r\n\x87\n", "pip install pillow-jxl-plugin"),
)


def decode(data: bytes, reason: str) -> NDArray[np.uint8]:
    """Pixels uint8 ``[H, W, 3]`` of an encoded image.

    Args:
        reason: why the core does not decode it; the message if Pillow does not either.

    Raises:
        ImageError: there is no decoder, the image is damaged, or larger than the core's bounds.
    """
    from PIL import Image, UnidentifiedImageError

    from discffusion.images import _from_pil

    _extend()
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]
    try:
        with Image.open(io.BytesIO(data), formats=formats) as pil_image:
            width, height = pil_image.size
            if width * height > MAX_PIXELS or max(width, height) > MAX_LENGTH:
                raise ImageError(
                    f"the image has {width} x {height} pixels, expected at most {MAX_PIXELS} pixels, {MAX_LENGTH} a "
                    "side; scale it down first"
                )
            pil_image.load()
            return _from_pil(pil_image)
    except DiscffusionError:
        raise
    except UnidentifiedImageError:
        raise ImageError(_advice(data, reason)) from None
    except MemoryError as error:
        raise OutOfMemoryError(
            f"there is too little memory to decode the image of {len(data)} bytes"
        ) from error
    except Exception as error:  # whatever a decoder, or one that was installed beside Pillow, thinks of
        why = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"the image cannot be decoded: {why}; check the file or save it anew") from error


def _advice(data: bytes, reason: str) -> str:
    for name, start, remedy in _KNOWN:
        if re.match(start, data, re.DOTALL):
            return (
                f"the image is {name}, and no decoder of it is installed: {remedy}, or save it as PNG or JPEG"
            )
    return reason


def _extend() -> None:
    """Makes Pillow know the formats of packages that are installed beside it."""
    for package, register in (("pillow_heif", "register_heif_opener"), ("pillow_jxl", None)):
        if find_spec(package) is not None:
            try:
                module: Any = importlib.import_module(package)
            except ImportError:  # of a broken installation; the format is then unknown, which is said
                continue
            if register is not None:
                getattr(module, register)()
