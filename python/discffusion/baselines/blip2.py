"""BLIP-2 image-text matching: the probability that its matching head gives."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion._extras import need
from discffusion.baselines.cache import EmbeddingCache
from discffusion.baselines.decoded import DecodedImages
from discffusion.baselines.published import EXTRA, ModelSource, digest, load_model, load_part
from discffusion.baselines.running import RunningBaseline

__all__ = ["Blip2Itm"]


class Blip2Itm(RunningBaseline):
    """BLIP-2's matching head; a score is the probability that the text belongs to the image, 0 to 1.

    Every image goes through the vision tower once, and what it gives is kept for later requests (64 MB of it); the
    Q-Former sees every pair.

    Args:
        model: a folder in the layout of transformers' ``Blip2ForImageTextRetrieval``, or a hub id.
        batch_size: pairs that go through the Q-Former at a time.
        others: as :class:`discffusion.baselines.running.RunningBaseline` takes them.
    """

    name = "blip2-itm"
    unit = "probability of a match"

    def __init__(
        self,
        model: str | os.PathLike[str] = "Salesforce/blip2-itm-vit-g",
        *,
        batch_size: int = 16,
        **others: Any,
    ) -> None:
        self._seen = EmbeddingCache(1 << 26)
        super().__init__(model, batch_size=batch_size, **others)

    def _open(self, source: ModelSource) -> None:
        transformers, torch = need("transformers", EXTRA), need("torch", EXTRA)
        kind = transformers.Blip2ForImageTextRetrieval
        self._model = load_model(kind, source, "blip-2", self._dtype, self._device)
        self._processor = load_part(transformers.AutoImageProcessor, source, "preprocessor_config.json")
        self._tokenizer = load_part(transformers.AutoTokenizer, source, "the tokenizer")
        config = self._model.config
        self._limit = int(config.qformer_config.max_position_embeddings)
        self._queries = int(config.num_query_tokens)
        self._placeholders = config.image_token_index is not None
        self._all_weights = dict(self._model.state_dict())
        self._vision = self._model.vision_model

        class Given(torch.nn.Module):  # type: ignore[misc, name-defined]
            """Hands on what the vision tower has made already, in place of pixels."""

            def forward(self, pixel_values: Any, **_: Any) -> tuple[Any]:
                return (pixel_values,)

        self._model.vision_model = Given()

    @cached_property
    def _fingerprint(self) -> str:
        return digest(self._all_weights)

    def _lengths(self, texts: list[str]) -> list[int]:
        return [len(ids) for ids in self._tokenizer(texts, truncation=False, verbose=False)["input_ids"]]

    def _pairs(self, seen: DecodedImages, texts: list[str], pairs: NDArray[np.int64]) -> NDArray[np.float64]:
        torch = need("torch", EXTRA)
        self._tell(texts)
        scores = []
        with torch.inference_mode():
            for part in self._chunks(pairs):  # by image, so that the features of few are held at a time
                wanted = part[:, 0].tolist()

                def make(places: list[int], wanted: list[int] = wanted) -> list[Any]:
                    features = self._features([seen[wanted[place]] for place in places])
                    return [row.clone() for row in features]

                rows = torch.stack(self._seen.rows([seen.digests[i] for i in wanted], make))
                scores.append(self._matching(rows, [texts[j] for j in part[:, 1]]))
        return np.concatenate(scores)

    def _features(self, part: list[Any]) -> Any:
        """What the vision tower makes of images, ``[n, patches, width]``."""
        pixels = self._processor(images=part, return_tensors="pt")["pixel_values"]
        return self._vision(pixel_values=pixels.to(self._device, self._dtype)).last_hidden_state

    def _matching(self, features: Any, texts: list[str]) -> NDArray[np.float64]:
        torch = need("torch", EXTRA)
        tokens = self._tokenizer(
            texts, padding=True, truncation=True, max_length=self._limit, return_tensors="pt"
        )
        ids, mask = (tokens[name].to(self._device) for name in ("input_ids", "attention_mask"))
        if self._placeholders:  # the model cuts off as many tokens as it has queries, and wants a mask of all
            ones = mask.new_ones(len(mask), self._queries)
            ids, mask = torch.cat([ones, ids], dim=1), torch.cat([ones, mask], dim=1)
        logits = self._model(
            pixel_values=features.to(self._model.query_tokens.dtype),
            input_ids=ids,
            attention_mask=mask,
            use_image_text_matching_head=True,
        ).logits_per_image
        scores: NDArray[np.float64] = logits.double().softmax(dim=-1)[:, 1].cpu().numpy()
        return scores
