"""CLIP of which the last layer alone is trained."""

from __future__ import annotations

import os
from typing import Any

from discffusion._extras import need
from discffusion.baselines.clip import DEFAULT
from discffusion.baselines.decoded import DecodedImages
from discffusion.baselines.learned import LearnedClip
from discffusion.baselines.published import EXTRA
from discffusion.data.item import MatchItem
from discffusion.errors import ConfigError

__all__ = ["TunedClip"]

LAYERS = ("projections", "last_block")


class TunedClip(LearnedClip):
    """CLIP with its last layer tuned; a score is a cosine, -1 to 1.

    The last layer of either tower is the linear projection into the space where images and texts are compared
    (``visual_projection`` and ``text_projection``). All else stays as published, so what goes into the projections is
    computed once for all epochs.

    Args:
        layers: ``"projections"``, or ``"last_block"`` for the last transformer block of both towers instead.
        weights: file of :meth:`save` to start scoring with.
        dtype: to :meth:`fit`, the model has to be in float32.
        others: as :class:`discffusion.baselines.clip.ClipBaseline` takes them.
    """

    name = "clip-tuned"
    learning_rate = 1e-4

    def __init__(
        self,
        model: str | os.PathLike[str] = DEFAULT,
        *,
        layers: str = "projections",
        weights: str | os.PathLike[str] | None = None,
        dtype: Any = "float32",
        **others: Any,
    ) -> None:
        if layers not in LAYERS:
            raise ConfigError(f"layers is {layers!r}; expected {' or '.join(LAYERS)}")
        super().__init__(model, dtype=dtype, **others)
        self._layers = layers
        self._keep_material = layers == "projections"
        starts: tuple[str, ...] = ("visual_projection.", "text_projection.")
        if layers == "last_block":
            towers = {"vision_model": "vision_config", "text_model": "text_config"}
            starts = tuple(
                f"{tower}.encoder.layers.{getattr(self._model.config, part).num_hidden_layers - 1}."
                for tower, part in towers.items()
            )
        self._tuned = {name: p for name, p in self._model.named_parameters() if name.startswith(starts)}
        self._published = {name: value.detach().clone() for name, value in self._tuned.items()}
        if weights is not None:
            self.load(weights)

    def describe(self) -> dict[str, Any]:
        description = super().describe()
        return {**description, "config": {**description["config"], "layers": self._layers}}

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(value.shape) for name, value in self._published.items()}

    def _first(self, seed: int) -> dict[str, Any]:
        self._adopt(None)
        for value in self._tuned.values():
            value.requires_grad_(True)
        return self._tuned

    def _adopt(self, learned: dict[str, Any] | None) -> None:
        values = self._published if learned is None else learned
        self._images.forget()
        self._texts.forget()
        with need("torch", EXTRA).no_grad():
            for name, value in self._tuned.items():
                value.requires_grad_(False)
                value.copy_(values[name])

    def _material(self, item: MatchItem) -> tuple[Any, Any]:
        seen = DecodedImages(item.images)
        pixels = self._pixels(seen[:])[need("torch", EXTRA).from_numpy(seen.places)]
        self._tell(list(item.texts))
        tokens = self._tokens(list(item.texts))
        if self._layers == "last_block":
            return pixels, tokens
        with need("torch", EXTRA).no_grad():
            image = self._model.vision_model(pixel_values=pixels).pooler_output
            text = self._model.text_model(**_both(tokens)).pooler_output
        return image, text

    def _score(self, material: tuple[Any, Any]) -> Any:
        if self._layers == "last_block":
            pixels, tokens = material
            image, text = self._image_features(pixels), self._text_features(tokens)
        else:
            pooled, words = material
            image, text = self._model.visual_projection(pooled), self._model.text_projection(words)
        normalize = need("torch.nn.functional", EXTRA).normalize
        return normalize(image, dim=-1) @ normalize(text, dim=-1).T


def _both(tokens: Any) -> dict[str, Any]:
    return {name: tokens[name] for name in ("input_ids", "attention_mask")}
