"""Formats of images by their first bytes, those that are not decoded everywhere."""

from __future__ import annotations

import io
import re

__all__ = ["unsupported_format"]

_STARTS = (
    (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", "JPEG2000"),
    (rb"....ftypavi[fs]", "AVIF"),
    (rb"....ftyp(hei[cfmsx]|hev[cmsx]|mif1|msf1)", "HEIF"),
    (rb"\x00\x00\x00\x0cJXL |\xff\x0a", "JXL"),
    (rb"\x00\x00\x01\x00", "ICO"),
    (rb"P[1-7fFy]\s", "PPM"),
    (rb"8BPS", "PSD"),
    (rb"\x76\x2f\x31\x01", "EXR"),
    (rb"#\?(RADIANCE|RGBE)", "HDR"),
    (rb"DDS ", "DDS"),
    (rb"qoif", "QOI"),
    (rb"%PDF", "PDF"),
    (rb"\s*(<\?xml[^>]*>\s*|<!--.*?-->\s*|<!DOCTYPE[^>]*>\s*)*<svg", "SVG"),
)


def unsupported_format(data: bytes) -> str | None:
    """The format of an image that could not be decoded, where it is whole but of a format that is not read.

    None means that the format is one that is read, or none at all, so that it is the image that is damaged.
    """
    start = data[:4096].removeprefix(b"\xef\xbb\xbf")
    name = next((name for pattern, name in _STARTS if re.match(pattern, start, re.DOTALL)), None)
    if name is None:
        return None
    from PIL import Image

    Image.init()
    if name not in Image.OPEN:
        return name
    try:
        with Image.open(io.BytesIO(data)) as pil_image:
            pil_image.load()
    except (OSError, ValueError, SyntaxError, KeyError, Image.DecompressionBombError):
        return None  # Pillow knows the format, and finds it damaged
    return name
