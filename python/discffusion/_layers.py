"""Which attention layers are meant: the same words for scores, observations and explanations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from discffusion.errors import ConfigError

__all__ = ["select"]

_LAST = re.compile(r"last\((\d+)\)")


def select(layers: str | Iterable[str], names: Sequence[str]) -> list[str]:
    """The names of the layers that are meant, in forward order.

    Args:
        layers: ``"all"``; a group, which is what names begin with (``"down"``, ``"mid"``, ``"up"``, ``"up.1"``);
            ``"last(n)"``; ``"last_blocks"``, the last block of every group; one layer's name, or several names.
        names: all the layers there are, in forward order.

    Raises:
        ConfigError: there are no such layers; the message lists those that there are.
    """
    if not isinstance(layers, str):
        return _named([str(name) for name in layers], names)
    if layers == "all":
        return list(names)
    if layers == "last_blocks":
        last_block = {name.partition(".")[0]: _block(name) for name in names}  # the last one wins
        return [name for name in names if _block(name) in last_block.values()]
    if last := _LAST.fullmatch(layers):
        count = int(last[1])
        if not 0 < count <= len(names):
            raise ConfigError(f"layers is {layers}; there are {len(names)} cross-attention layers")
        return list(names)[-count:]
    group = [name for name in names if f"{name}.".startswith(f"{layers}.")]
    return group or _named([layers], names)


def _block(name: str) -> str:
    """Of a layer's name, as ``"up.3.2"``, the group and the block in it."""
    return ".".join(name.split(".")[:2])


def _named(wanted: Sequence[str], names: Sequence[str]) -> list[str]:
    for name in wanted:
        if name not in names:
            there = ", ".join(names)
            raise ConfigError(f'layers names "{name}"; there are {there}, and groups of them such as "up"')
    return [name for name in names if name in wanted]
