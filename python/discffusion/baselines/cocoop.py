"""CLIP with learned prompts: context vectors before every text, shifted by a small network that sees the image."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion._arguments import whole_number
from discffusion._extras import need
from discffusion.baselines.clip import DEFAULT
from discffusion.baselines.decoded import DecodedImages
from discffusion.baselines.learned import LearnedClip
from discffusion.baselines.published import EXTRA
from discffusion.data.item import MatchItem
from discffusion.errors import ConfigError

__all__ = ["Cocoop"]


class Cocoop(LearnedClip):
    """Conditional prompt learning (Zhou et al., CVPR 2022) on a frozen CLIP; a score is a cosine, -1 to 1.

    What the text tower reads is: BOS, context vectors, the text's own tokens, EOS. The context vectors are learned,
    and so is a network of two linear layers with a ReLU between them (the meta-net; its width is a sixteenth of the
    image embedding's) that turns the normalised image embedding into one vector that is added to all of them. So a
    text is embedded once for every image it is scored with; images are embedded once.

    The second layer of the meta-net starts at zero: at first the prompt is the same for all images.

    Args:
        context: number of context vectors, drawn at the start (standard deviation 0.02), or words whose embeddings
            they start from, as ``"a photo of"``.
        weights: file of :meth:`save` to start scoring with.
        dtype: to :meth:`fit`, the model has to be in float32.
        others: as :class:`discffusion.baselines.clip.ClipBaseline` takes them; `batch_size` counts pairs here.
    """

    name = "cocoop"
    learning_rate = 2e-3

    def __init__(
        self,
        model: str | os.PathLike[str] = DEFAULT,
        *,
        context: int | str = 4,
        weights: str | os.PathLike[str] | None = None,
        dtype: Any = "float32",
        **others: Any,
    ) -> None:
        super().__init__(model, dtype=dtype, **others)
        self._words = self._tokenizer(context)["input_ids"][1:-1] if isinstance(context, str) else None
        self._context = whole_number("context", context if self._words is None else len(self._words), 1)
        if self._context > self._limit - 3:
            raise ConfigError(
                f"context takes {self._context} of the {self._limit} tokens that the model reads, and leaves no room "
                "for a text"
            )
        self._init = context
        self._now: dict[str, Any] = {}
        self._limit -= self._context  # what is left for a text
        if weights is not None:
            self.load(weights)

    def describe(self) -> dict[str, Any]:
        description = super().describe()
        return {**description, "config": {**description["config"], "context": self._init}}

    def _pairs(self, seen: DecodedImages, texts: list[str], pairs: NDArray[np.int64]) -> NDArray[np.float64]:
        torch = need("torch", EXTRA)
        self._need_learned()
        self._tell(texts)
        image = torch.from_numpy(self._embed_images(seen)).to(self._device)
        parts = []
        with torch.inference_mode():
            for part in self._chunks(pairs):
                rows = image[torch.from_numpy(part[:, 0])]
                words = self._conditional(rows, self._tokens([texts[j] for j in part[:, 1]]))
                parts.append(torch.cosine_similarity(rows.double(), words.double()).cpu())
        scores: NDArray[np.float64] = torch.cat(parts).numpy()
        return scores

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        width, seen = int(self._model.config.text_config.hidden_size), int(self._model.config.projection_dim)
        hidden = max(1, seen // 16)
        return {
            "context": (self._context, width),
            "meta.in.weight": (hidden, seen),
            "meta.in.bias": (hidden,),
            "meta.out.weight": (width, hidden),
            "meta.out.bias": (width,),
        }

    def _first(self, seed: int) -> dict[str, Any]:
        torch = need("torch", EXTRA)
        draw = torch.Generator().manual_seed(seed)
        tensors = {name: torch.zeros(shape) for name, shape in self._shapes().items()}
        if self._words is None:
            tensors["context"].normal_(0.0, 0.02, generator=draw)
        else:
            table = self._model.text_model.embeddings.token_embedding.weight
            tensors["context"].copy_(table[self._words].detach())
        reach = 1 / math.sqrt(tensors["meta.in.weight"].shape[1])  # as torch's Linear starts
        for name in ("meta.in.weight", "meta.in.bias"):
            tensors[name].uniform_(-reach, reach, generator=draw)
        self._now = {name: value.to(self._device).requires_grad_(True) for name, value in tensors.items()}
        return self._now

    def _adopt(self, learned: dict[str, Any] | None) -> None:
        self._now = learned or {}

    def _material(self, item: MatchItem) -> tuple[Any, Any]:
        torch = need("torch", EXTRA)
        seen = DecodedImages(item.images)
        self._tell(list(item.texts))
        with torch.no_grad():
            image = self._image_features(self._pixels(seen[:]))[torch.from_numpy(seen.places)]
        return image, self._tokens(list(item.texts))

    def _score(self, material: tuple[Any, Any]) -> Any:
        torch = need("torch", EXTRA)
        image, tokens = material
        n, m = len(image), len(tokens["input_ids"])
        rows = image.repeat_interleave(m, dim=0)
        words = self._conditional(rows, {name: tokens[name].repeat(n, 1) for name in tokens})
        return torch.cosine_similarity(rows, words).reshape(n, m)

    def _conditional(self, image: Any, tokens: Any) -> Any:
        """Embeddings ``[n, d]`` of texts, row by row under the prompt of an image's embedding ``[n, d]``."""
        torch = need("torch", EXTRA)
        functional = torch.nn.functional
        now = self._now
        hidden = functional.linear(
            functional.normalize(image.float(), dim=-1), now["meta.in.weight"], now["meta.in.bias"]
        )
        shift = functional.linear(functional.relu(hidden), now["meta.out.weight"], now["meta.out.bias"])
        prompt = now["context"][None] + shift[:, None]
        # the BOS token stands in the place of each vector, so that the tower finds the EOS token where it is
        spread = {
            name: torch.cat([values[:, :1].expand(-1, 1 + self._context), values[:, 1:]], dim=1)
            for name, values in tokens.items()
        }
        with self._prompted(prompt):
            return self._text_features(spread)

    @contextmanager
    def _prompted(self, prompt: Any) -> Iterator[None]:
        """Within it the text tower reads `prompt` ``[n, context, width]`` after the BOS token."""
        torch = need("torch", EXTRA)

        def place(_: Any, __: Any, embedded: Any) -> Any:
            rest = embedded[:, 1 + self._context :]
            return torch.cat([embedded[:, :1], prompt.to(embedded.dtype), rest], dim=1)

        handle = self._model.text_model.embeddings.token_embedding.register_forward_hook(place)
        try:
            yield
        finally:
            handle.remove()
