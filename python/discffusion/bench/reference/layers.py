"""The names of a UNet's cross-attention layers."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["block_of", "layer_names"]

_KEY = re.compile(
    r"(down|mid|up)_blocks?\.(?:(\d+)\.)?attentions\.(\d+)\.transformer_blocks\.(\d+)\.attn2\.processor"
)
_GROUPS = ("down", "mid", "up")


def layer_names(processors: Iterable[str]) -> dict[str, str]:
    """From the keys of ``unet.attn_processors``: the name of each cross-attention layer → its key, in forward order.

    ``down.1.0`` is the first transformer of the second down block, ``mid.0`` that of the mid block. Where a
    transformer of the UNet block has more than one transformer block, the index of the latter follows:
    ``down.1.0.3``, ``mid.0.9``.
    """
    matches = sorted(
        ((_KEY.fullmatch(key), key) for key in processors if ".attn2." in key), key=lambda pair: _order(*pair)
    )
    deep = {(m[1], m[2]) for m, _ in matches if m and int(m[4]) > 0}
    names: dict[str, str] = {}
    for match, key in matches:
        assert match is not None
        group, block, transformer, index = match.groups()
        parts = [group, block, transformer, index if (group, block) in deep else None]
        names[".".join(part for part in parts if part is not None)] = key
    return names


def _order(match: re.Match[str] | None, key: str) -> tuple[int, ...]:
    if match is None:
        raise ValueError(f"{key!r} is no cross-attention layer of a UNet")
    return (_GROUPS.index(match[1]), *(int(number or 0) for number in match.groups()[1:]))


def block_of(layer: str) -> str:
    """The UNet block of a layer: ``down.1`` of ``down.1.0.3``, ``mid`` of ``mid.0``."""
    parts = layer.split(".")
    return parts[0] if parts[0] == "mid" else ".".join(parts[:2])
