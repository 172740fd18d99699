"""CLIP as open_clip has it, zero-shot: the cosine of an image's and a text's embedding."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion._extras import need
from discffusion.baselines.cache import EmbeddingCache
from discffusion.baselines.clip import DEFAULT, cosines
from discffusion.baselines.decoded import DecodedImages
from discffusion.baselines.published import ModelSource, first_line
from discffusion.baselines.running import RunningBaseline
from discffusion.errors import CheckpointError

__all__ = ["OpenClipBaseline"]

EXTRA = "open-clip"
_CONFIG = "open_clip_config.json"
# in this order, as open_clip looks for them; pickles are left alone
_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
_LONG = 4096  # tokens that texts are counted up to


class OpenClipBaseline(RunningBaseline):
    """CLIP zero-shot by open_clip; a score is the cosine of the image's embedding and the text's, -1 to 1.

    Every image and every text is embedded once, whatever the number of pairs and of requests: the latest embeddings, a
    quarter of a gigabyte of either, are kept.

    Args:
        model: a folder as open_clip publishes models (``open_clip_config.json``, ``open_clip_model.safetensors``), or
            the hub id of one.
        batch_size: images or texts that go through the model at a time.
        others: as :class:`discffusion.baselines.running.RunningBaseline` takes them.
    """

    name = "open-clip"
    unit = "cosine"
    packages = ("open_clip_torch", "torchvision")
    files = (*_WEIGHTS, "*.json", "*.txt", "*.model")

    def __init__(
        self, model: str | os.PathLike[str] = DEFAULT, *, batch_size: int = 64, **others: Any
    ) -> None:
        self._images, self._texts = EmbeddingCache(), EmbeddingCache()
        super().__init__(model, batch_size=batch_size, **others)

    def _open(self, source: ModelSource) -> None:
        library = need("open_clip", EXTRA)
        name = f"local-dir:{_folder(source)}"
        try:
            model, _, self._preprocess = library.create_model_and_transforms(name, pretrained_text=False)
            self._tokenizer = library.get_tokenizer(name)
        except Exception as error:  # what broken files raise there is not to be foreseen
            raise CheckpointError(
                f"{source.name!r} cannot be loaded by open_clip: {first_line(error)}"
            ) from None
        self._model = model.to(self._device, self._dtype).eval().requires_grad_(False)
        self._limit = int(self._tokenizer.context_length)

    def _pairs(self, seen: DecodedImages, texts: list[str], pairs: NDArray[np.int64]) -> NDArray[np.float64]:
        torch = need("torch", EXTRA)
        self._tell(texts)

        def of_images(part: list[int]) -> Any:
            pixels = torch.stack([self._preprocess(seen[place]) for place in part])
            return self._model.encode_image(pixels.to(self._device, self._dtype))

        def of_texts(part: list[int]) -> Any:
            return self._model.encode_text(self._tokenizer([texts[place] for place in part]).to(self._device))

        image = self._images.rows(seen.digests, lambda places: self._embedded(places, of_images))
        text = self._texts.rows(texts, lambda places: self._embedded(places, of_texts))
        return cosines(np.stack(image), np.stack(text), pairs)

    def _embedded(self, places: list[int], embed: Callable[[list[int]], Any]) -> list[NDArray[np.float32]]:
        """Embeddings of places, a batch at a time; none holds its whole batch."""
        parts: list[NDArray[np.float32]] = []
        with need("torch", EXTRA).inference_mode():
            for part in self._chunks(places):
                parts.extend(row.copy() for row in embed(part).float().cpu().numpy())
        return parts

    def _lengths(self, texts: list[str]) -> list[int]:
        # all its tokenizers pad to the length they are asked for, with one token
        tokens = self._tokenizer(["", *texts], context_length=_LONG)
        own = tokens != tokens[0, -1]
        return [int(row.nonzero().max()) + 1 if row.any() else 0 for row in own[1:]]


def _folder(source: ModelSource) -> Path:
    """The folder with the model's files, fetched where that is needed."""
    missing = ""
    for folder in source.folders():
        lacking = _missing(folder)
        if lacking is None:
            return folder
        missing = lacking
    raise CheckpointError(
        f"{source.name!r} lacks {missing}; expected the files that open_clip publishes (for the layout of "
        "transformers' CLIPModel use the baseline 'clip')"
    )


def _missing(folder: Path) -> str | None:
    if not (folder / _CONFIG).is_file():
        return _CONFIG
    return None if any((folder / name).is_file() for name in _WEIGHTS) else _WEIGHTS[0]
