"""Explaining the score of one image and one text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from discffusion import _layers, _native
from discffusion._arguments import checked_noise, checked_texts
from discffusion._progress import Progress, reporting
from discffusion.errors import ConfigError
from discffusion.explanation.explanation import Explanation
from discffusion.explanation.words import tokens_of, words_of
from discffusion.images import is_single, prepare
from discffusion.observation import Tokens

if TYPE_CHECKING:
    from discffusion.scorer import Scorer

__all__ = ["explain"]

#: longest side of the image that maps are brought to, pixels
LONGEST = 1024


def explain(
    scorer: Scorer,
    image: Any,
    text: Any,
    map: str,
    layers: str | Iterable[str],
    noise: Any,
    progress: Progress,
) -> Explanation:
    """See :meth:`Scorer.explain`."""
    texts = checked_texts(text)
    if not is_single(image) or len(texts) != 1:
        raise ConfigError("explain takes one image and one text")
    if not isinstance(map, str):
        raise ConfigError(f"map is {map!r}; expected 'probs', 'logits', 'cosine' or 'text_probs'")
    given = checked_noise(noise, ("steps", "C", "h", "w"))
    model, prepared = scorer._model, prepare(image)
    core = _native.core()
    shown_layers = _layers.select(layers, scorer.layers)
    with reporting(progress) as report:
        result = core.explain(model, prepared, texts[0], map, shown_layers, scorer.config, given, report)
    pixels = core.decode_image(prepared) if isinstance(prepared, bytes) else prepared
    height, width = pixels.shape[:2]
    scale = min(1.0, LONGEST / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    shown = pixels if size == (height, width) else core.preprocess_image(pixels, *size, None, "squash")
    left, top, right, bottom = result["view"]
    across, down = size[1] / width, size[0] / height
    steps = len(result["timesteps"])
    tokens = tokens_of(texts[0], Tokens.from_core(result["tokens"]))
    return Explanation(
        image=shown,
        text=texts[0],
        score=float(result["scores"].mean()),
        tokens=tokens,
        words=words_of(texts[0], tokens),
        timesteps=tuple(result["timesteps"]),
        contributions=result["contributions"],
        places=result["places"],
        denoising_per_timestep=result["denoising"] / steps,
        prior_per_timestep=result["prior"] / steps,
        layer_maps=result["maps"],
        timestep_maps=result["by_timestep"],
        view=(left * across, top * down, right * across, bottom * down),
        map=map,
        settings=scorer.describe(),
    )
