"""Other ways to score how well images and texts match, behind one protocol.

    >>> from discffusion.baselines import load_baseline
    >>> clip = load_baseline("clip", model="pocket")
    >>> clip.matrix(["a.png", "b.png"], ["a red circle left of a blue square"])

Each needs its own library, which is imported when the baseline is made. Anything else with ``matrix(images, texts)``
can be evaluated in the same way; see :class:`Matcher`.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from discffusion._registry import Entry, Registry
from discffusion.baselines.protocol import Baseline, Matcher
from discffusion.errors import ConfigError

__all__ = ["Baseline", "Matcher", "baseline_names", "describe_baselines", "load_baseline"]


@dataclass(frozen=True)
class BaselineEntry(Entry):
    """Of a baseline of this package: which optional dependencies bring its library, and its default model."""

    extra: str | None = None
    model: str = "the bundled pocket model"


def _own(
    target: str, about: str, extra: str | None = None, model: str = "the bundled pocket model"
) -> BaselineEntry:
    """The entry of ``MODULE:ATTRIBUTE`` in this folder."""
    install = f'; pip install "discffusion[{extra}]"' if extra else ""
    line = f"{about}; model {model}{install}"
    return BaselineEntry(f"discffusion.baselines.{target}", line, extra=extra, model=model)


_OWN = {
    "blip2-itm": _own(
        "blip2:Blip2Itm",
        "BLIP-2 image-text matching head (transformers), probability of a match",
        "baselines",
        "Salesforce/blip2-itm-vit-g",
    ),
    "clip": _own(
        "clip:ClipBaseline",
        "CLIP zero-shot (transformers), cosine",
        "baselines",
        "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    ),
    "clip-tuned": _own(
        "clip_tuned:TunedClip",
        "CLIP with its last layer tuned on few items (transformers), cosine",
        "baselines",
        "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    ),
    "cocoop": _own(
        "cocoop:Cocoop",
        "CLIP with conditional prompt learning on few items (transformers), cosine",
        "baselines",
        "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    ),
    "diffusion-classifier": _own(
        "denoising:diffusion_classifier",
        "minus the denoising error under the text (this package's core)",
    ),
    "diffusion-itm": _own(
        "denoising:diffusion_itm", "how much the text lowers the denoising error (this package's core)"
    ),
    "open-clip": _own(
        "openclip:OpenClipBaseline",
        "CLIP zero-shot (open_clip), cosine",
        "open-clip",
        "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    ),
    "vqascore": _own(
        "vqascore:VqaScore",
        "a generative model (transformers) asked about the text, probability of yes",
        "baselines",
        "llava-hf/llava-1.5-7b-hf",
    ),
}
_BASELINES: Registry[Any] = Registry(
    "baseline",
    _OWN,
    group="discffusion.baselines",
    check=lambda _, make: (
        None if callable(make) else f"{make!r}; expected a class or a function that makes it"
    ),
)


def baseline_names() -> list[str]:
    """Names that :func:`load_baseline` knows: this package's own, then those that other packages add."""
    return list(_BASELINES)


def describe_baselines() -> dict[str, str]:
    """For every name a line: what it is, what a score is, the default model, and what to install."""
    return _BASELINES.describe()


def check_baseline(name: Any) -> None:
    """Whether there is a baseline of this name; nothing is imported.

    Raises:
        ConfigError: there is none; the message lists all.
    """
    _BASELINES.entry(name)


def load_baseline(name: str, **options: Any) -> Any:
    """Make a baseline ready to score.

    Args:
        name: one of :func:`baseline_names`.
        options: what the baseline takes: most have ``model`` (folder or hub id), ``device``, ``dtype``, ``batch_size``,
            ``truncate`` and ``local_files_only``. A default model is looked up on the hub.

    Returns:
        An object with ``matrix(images, texts)``, ``rank`` and ``describe()``; ``clip-tuned`` and ``cocoop`` also have
        ``fit(items)``, ``save(path)`` and ``load(path)``.

    Raises:
        CheckpointError: the model is missing, incomplete or of another kind.
        ConfigError: the name or an option is unknown or out of range.
        DeviceError: the device or dtype is not to be had.
        InstallationError: the library is not installed, or the baseline is of another package and cannot be loaded.
    """
    make = _BASELINES.load(name)
    known = _options(make)
    unknown = sorted(set(options) - known)
    if unknown and "**" not in known:
        raise ConfigError(f"{name} has no option {unknown[0]!r}; there are: {', '.join(sorted(known))}")
    return make(**options)


def _options(make: Any) -> set[str]:
    """Names of options, of base classes too; ``**`` stands for any other."""
    found: set[str] = set()
    kinds = make.__mro__ if isinstance(make, type) else (make,)
    for kind in kinds:
        own = kind.__dict__.get("__init__") if isinstance(kind, type) else kind
        if own is None or not inspect.isfunction(own):
            continue
        parameters = list(inspect.signature(own).parameters.values())
        found |= {p.name for p in parameters if p.kind is not p.VAR_KEYWORD and p.name != "self"}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return found
    return found | {"**"}
