"""What must be the same for the rows of an evaluation to belong together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from discffusion._identity import anonymous, digest, identity, plain
from discffusion.errors import ConfigError

__all__ = ["CURVE", "refuse_anonymous", "run_of", "settings_of"]

#: what the curve from scores to probabilities is called among the settings
CURVE = "probability"
#: Raised when rows mean something else than before.
_ROWS_VERSION = 1


def settings_of(
    facts: Mapping[str, Any], dataset: str, about: Any, curve: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The settings of a run, plain data. Texts and images are not among them: each row has its own.

    Args:
        facts: what describes the scorer, see :func:`~discffusion._identity.described`.
        dataset, about: name of the dataset and what it says of itself, of which ``notes`` change nothing.
        curve: from scores to probabilities, if there is one; plain data.
    """
    items = plain(about, "what the dataset says of itself")
    if isinstance(items, dict):
        items.pop("notes", None)
    settings = {"rows": _ROWS_VERSION, "dataset": dataset, "items": items, "scorer": identity(facts)}
    return settings if curve is None else {**settings, CURVE: dict(curve)}


def run_of(settings: Mapping[str, Any]) -> str:
    """The digest that rows have in place of their settings.

    Without the curve: scores are the same with any, so a run may be taken up with another.
    """
    return digest({name: value for name, value in settings.items() if name != CURVE})


def refuse_anonymous(settings: Mapping[str, Any], place: Any) -> None:
    """Refuses to go on with rows at `place` for a scorer that does not describe itself.

    Raises:
        ConfigError: it does not.
    """
    scorer = settings["scorer"]
    if anonymous(scorer):
        raise ConfigError(
            f"the rows in {str(place)!r} may be of another {scorer.get('class', 'scorer')}: it does not describe "
            "itself. Give it describe(), plain data that changes whenever its scores do; or another output; or start "
            "over with resume=False"
        )
