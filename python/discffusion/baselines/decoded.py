"""Images as other libraries take them: Pillow images, decoded as everywhere in this package."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from discffusion import _native
from discffusion.errors import ImageError
from discffusion.images import prepare_many

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["DecodedImages"]


class DecodedImages(Sequence["Image"]):
    """The distinct images of a request as RGB images in full size, decoded when they are asked for.

    Args:
        images: several images; see :mod:`discffusion.images`.

    Attributes:
        places: int64 ``[len(images)]``, for every image the place of its decoded one.

    Raises:
        ImageError: an image cannot be read; the message says which.
    """

    def __init__(self, images: Any) -> None:
        self._prepared, index = prepare_many(images)
        self.places = np.array(index, dtype=np.int64)

    @cached_property
    def digests(self) -> list[bytes]:
        """For every image what tells it from others: sha256 of the file's bytes, or of the shape and the pixels."""
        digests = []
        for prepared in self._prepared:
            if isinstance(prepared, bytes):
                digests.append(hashlib.sha256(prepared).digest())
            else:
                of_pixels = hashlib.sha256(repr(prepared.shape).encode())
                of_pixels.update(prepared.tobytes())
                digests.append(of_pixels.digest())
        return digests

    def __len__(self) -> int:
        return len(self._prepared)

    @overload
    def __getitem__(self, place: int) -> Image: ...
    @overload
    def __getitem__(self, place: slice) -> list[Image]: ...
    def __getitem__(self, place: int | slice) -> Image | list[Image]:
        if isinstance(place, slice):
            return [self[position] for position in range(len(self))[place]]
        from PIL import Image

        prepared = self._prepared[place]
        if not isinstance(prepared, bytes):
            return Image.fromarray(prepared)
        try:
            return Image.fromarray(_native.core().decode_image(prepared))
        except ImageError as error:
            given = int(np.flatnonzero(self.places == range(len(self))[place])[0])
            raise ImageError(f"image {given} of {len(self.places)}: {error}") from None
