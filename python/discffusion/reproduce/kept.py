"""What trainings and calibrations are found again by, and how long they took."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from discffusion.data.items import Items

if TYPE_CHECKING:
    from discffusion.data.lazy import Dataset

__all__ = ["digest_of", "items_facts", "seconds_in"]


def items_facts(items: Dataset[Any]) -> dict[str, Any]:
    """What identifies labelled items: their dataset, and a digest of keys, texts and matches."""
    return {"name": items.name, **items.about, "digest": Items(items, "items").examine()}


def digest_of(facts: Mapping[str, Any]) -> str:
    """12 hexadecimal digits that stand for all that a result depends on."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:12]


def seconds_in(path: Path) -> float:
    """The number in a file; 0 if there is none."""
    try:
        return float(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0.0
