"""CLIP as transformers has it, zero-shot: the cosine of an image's and a text's embedding."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion._arguments import checked_texts
from discffusion._extras import need
from discffusion.baselines.cache import EmbeddingCache
from discffusion.baselines.decoded import DecodedImages
from discffusion.baselines.published import EXTRA, ModelSource, load_model, load_part
from discffusion.baselines.running import RunningBaseline
from discffusion.pocket import CLIP_DIR

__all__ = ["DEFAULT", "ClipBaseline", "cosines"]

#: the model of the paper's CLIP rows
DEFAULT = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"


class ClipBaseline(RunningBaseline):
    """CLIP zero-shot: a score is the cosine of the image's embedding and the text's, -1 to 1.

    Every image and every text is embedded once, whatever the number of pairs and of requests: the latest embeddings, a
    quarter of a gigabyte of either, are kept.

    Args:
        model: a folder in the layout of transformers' ``CLIPModel``, a hub id, or ``"pocket"`` for the small CLIP of
            the shapes world that comes with this package.
        batch_size: images or texts that go through the model at a time.
        others: as :class:`discffusion.baselines.running.RunningBaseline` takes them.
    """

    name = "clip"
    unit = "cosine"

    def __init__(
        self, model: str | os.PathLike[str] = DEFAULT, *, batch_size: int = 64, **others: Any
    ) -> None:
        self._images, self._texts = EmbeddingCache(), EmbeddingCache()
        super().__init__(CLIP_DIR if model == "pocket" else model, batch_size=batch_size, **others)
        if model == "pocket":
            self.model_id = "pocket"

    def embed_images(self, images: Any) -> NDArray[np.float32]:
        """Embeddings of several images, float32 ``[n, d]``, not normalised."""
        seen = DecodedImages(images)
        return self._embed_images(seen)[seen.places]

    def embed_texts(self, texts: Any) -> NDArray[np.float32]:
        """Embeddings of texts, float32 ``[n, d]``, not normalised."""
        torch = need("torch", EXTRA)
        given = checked_texts(texts)
        self._tell(given)

        def make(places: list[int]) -> list[NDArray[np.float32]]:
            parts: list[NDArray[np.float32]] = []
            with torch.inference_mode():
                for part in self._chunks([given[place] for place in places]):
                    parts.extend(self._text_features(self._tokens(part)).float().cpu().numpy())
            return [row.copy() for row in parts]  # none holds its whole batch

        return np.stack(self._texts.rows(given, make))

    def _open(self, source: ModelSource) -> None:
        transformers = need("transformers", EXTRA)
        self._model = load_model(transformers.CLIPModel, source, "clip", self._dtype, self._device)
        self._processor = load_part(transformers.AutoImageProcessor, source, "preprocessor_config.json")
        self._tokenizer = load_part(transformers.AutoTokenizer, source, "the tokenizer")
        self._limit = int(self._model.config.text_config.max_position_embeddings)

    def _pairs(self, seen: DecodedImages, texts: list[str], pairs: NDArray[np.int64]) -> NDArray[np.float64]:
        return cosines(self._embed_images(seen), self.embed_texts(texts), pairs)

    def _lengths(self, texts: list[str]) -> list[int]:
        return [len(ids) for ids in self._tokenizer(texts, truncation=False, verbose=False)["input_ids"]]

    def _embed_images(self, seen: DecodedImages) -> NDArray[np.float32]:
        torch = need("torch", EXTRA)

        def make(places: list[int]) -> list[NDArray[np.float32]]:
            parts: list[NDArray[np.float32]] = []
            with torch.inference_mode():
                for part in self._chunks(places):  # decoded a batch at a time
                    pixels = self._pixels([seen[place] for place in part])
                    parts.extend(self._image_features(pixels).float().cpu().numpy())
            return [row.copy() for row in parts]

        return np.stack(self._images.rows(seen.digests, make))

    def _pixels(self, part: list[Any]) -> Any:
        values = self._processor(images=part, return_tensors="pt")["pixel_values"]
        return values.to(self._device, self._dtype)

    def _tokens(self, part: list[str]) -> dict[str, Any]:
        encoded = self._tokenizer(
            part, padding=True, truncation=True, max_length=self._limit, return_tensors="pt"
        )
        return {name: encoded[name].to(self._device) for name in ("input_ids", "attention_mask")}

    def _image_features(self, pixels: Any) -> Any:
        return self._model.get_image_features(pixel_values=pixels).pooler_output

    def _text_features(self, tokens: dict[str, Any]) -> Any:
        return self._model.get_text_features(**tokens).pooler_output


def cosines(
    images: NDArray[np.float32], texts: NDArray[np.float32], pairs: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Cosines of rows of embeddings ``[n, d]`` and ``[m, d]``, float64 ``[len(pairs)]``."""
    image, text = (
        values.astype(np.float64) / np.linalg.norm(values.astype(np.float64), axis=1, keepdims=True)
        for values in (images, texts)
    )
    products: NDArray[np.float64] = np.einsum("nd,nd->n", image[pairs[:, 0]], text[pairs[:, 1]])
    return products
