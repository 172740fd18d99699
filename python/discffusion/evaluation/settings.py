"""What must be the same for the rows of an evaluation to belong together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from discffusion.errors import ConfigError
from discffusion.evaluation.describe import anonymous, identity, plain

__all__ = ["difference", "digest", "refuse_anonymous", "settings_of"]

#: Raised when rows mean something else than before.
_ROWS_VERSION = 1


def settings_of(facts: Mapping[str, Any], dataset: str, about: Any) -> dict[str, Any]:
    """The settings of a run, plain data. Texts and images are not among them: each row has its own.

    Args:
        facts: what describes the scorer, see :func:`~discffusion.evaluation.describe.described`.
        dataset, about: name of the dataset and what it says of itself, of which ``notes`` change nothing.
    """
    items = plain(about, "what the dataset says of itself")
    if isinstance(items, dict):
        items.pop("notes", None)
    return {"rows": _ROWS_VERSION, "dataset": dataset, "items": items, "scorer": identity(facts)}


def digest(settings: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that stand for the settings in each row."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def refuse_anonymous(settings: Mapping[str, Any], place: Any) -> None:
    """Refuses to go on with rows at `place` for a scorer that says nothing of itself.

    Raises:
        ConfigError: it does not.
    """
    scorer = settings["scorer"]
    if anonymous(scorer):
        raise ConfigError(
            f"the rows in {str(place)!r} may be of another {scorer.get('class', 'scorer')}: it says nothing of itself. "
            "Give it describe(), plain data that change whenever its scores do; or another output; or start over with "
            "resume=False"
        )


def difference(was: Any, now: Any, name: str = "") -> str | None:
    """The first thing that is not the same, with both values; None if all is."""
    if isinstance(was, dict) and isinstance(now, dict):
        found = (
            difference(was.get(key), now.get(key), f"{name} {key}".strip())
            for key in dict.fromkeys([*was, *now])
        )
        return next((text for text in found if text is not None), None)
    return None if was == now else f"{name} was {_shown(was)} and is {_shown(now)}"


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else text[:117] + "..."
