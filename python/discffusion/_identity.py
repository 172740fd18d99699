"""What a scorer is, as the columns of a row and as what must be the same for rows to belong together."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from discffusion._version import __version__
from discffusion.errors import ConfigError, InstallationError

__all__ = [
    "anonymous",
    "columns",
    "described",
    "difference",
    "digest",
    "header",
    "identity",
    "images_digest",
    "in_words",
    "plain",
]

# Where and with what a score is computed.
_PLACE = ("device", "versions", "revision")
# Fields of a configuration that never change a score: rows that were scored before are still right.
_NO_EFFECT = ("batch_size", "truncate")


def described(scorer: Any) -> dict[str, Any]:
    """What `scorer` says of itself by ``describe()``, plain data; the name of its class if it says nothing.

    Raises:
        ConfigError: what it says is not plain data.
    """
    kind = type(scorer)
    if not hasattr(scorer, "describe"):
        return {"class": f"{kind.__module__}.{kind.__qualname__}"}
    description = plain(scorer.describe(), "what describe() of the scorer returns")
    if not isinstance(description, dict):
        raise ConfigError(
            f"describe() of {kind.__qualname__} returns {type(description).__name__}; expected a dict"
        )
    return description


def identity(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Of what :func:`described` gives, what scores depend on."""
    # Whose parts are known by checksums is the same under any name: a model that is moved, or fetched again.
    named = ("model",) if isinstance(facts.get("parts"), Mapping) else ()
    kept = {name: value for name, value in facts.items() if name not in (*_PLACE, *named)}
    config = kept.get("config")
    if isinstance(config, dict):
        kept["config"] = {name: value for name, value in config.items() if name not in _NO_EFFECT}
    return kept


def header(number: int, facts: Mapping[str, Any], revision: str | None = None) -> dict[str, Any]:
    """What a result begins with so that it can be repeated: its format, what it was made with, what was scored.

    Args:
        number: of the format.
        facts: what a scorer says of itself.
        revision: of the model, where `facts` holds none.
    """
    versions = facts.get("versions")
    torch = versions.get("torch") if isinstance(versions, Mapping) else None
    return {"format": number, "version": __version__, "torch": torch, "revision": revision, **facts}


def anonymous(facts: Mapping[str, Any]) -> bool:
    """Whether a scorer does not describe itself: two of a class that give other scores look the same."""
    return not set(identity(facts)) - {"class"}


def columns(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Of what :func:`described` gives, what stands in each row."""
    config = facts.get("config")
    config = config if isinstance(config, dict) else {}
    timesteps = facts.get("timesteps")
    if not isinstance(timesteps, list) or not all(isinstance(step, int | float) for step in timesteps):
        timesteps = None
    versions = facts.get("versions")
    versions = versions if isinstance(versions, dict) else {}
    return {
        "score_version": facts.get("score_version"),
        "model": str(facts.get("model", facts.get("class", "not told"))),
        "fingerprint": facts.get("fingerprint"),
        "revision": facts.get("revision"),
        "deltas": facts.get("deltas"),
        "dtype": facts.get("dtype"),
        "seed": _whole(facts.get("seed", config.get("seed"))),
        "n_noise": _whole(facts.get("n_noise", None if timesteps is None else len(timesteps))),
        "timesteps": timesteps,
        "preprocess_version": facts.get("preprocess_version"),
        "device": facts.get("device"),
        "versions": ", ".join(
            f"{name} {version}" for name, version in {"discffusion": __version__, **versions}.items()
        ),
    }


def images_digest(images: Mapping[str, tuple[str, ...]]) -> str:
    """One sha256 of the images of all items, from that of each; the order of the items does not matter."""
    lines = (f"{key}\t{','.join(digests)}\n" for key, digests in sorted(images.items()))
    return hashlib.sha256("".join(lines).encode(errors="surrogatepass")).hexdigest()


def in_words(settings: Mapping[str, Any]) -> str:
    """What scored, in a line: the model and its preset with what was changed, or the baseline and its options.

    Args:
        settings: those of a report.
    """
    scorer = settings.get("scorer")
    scorer = scorer if isinstance(scorer, Mapping) else {}
    config = scorer.get("config")
    model = str(settings.get("model") or scorer.get("model") or scorer.get("class") or "")
    parts = [f"{scorer['baseline']} ({model})" if "baseline" in scorer else model]
    if isinstance(config, Mapping):
        options = [f"{name}={value}" for name, value in config.items()]
        parts.append(", ".join(options) if "baseline" in scorer else _preset(config))
    if isinstance(scorer.get("deltas"), str):
        parts.append(f"deltas {scorer['deltas'][:16]}")
    if scorer.get("dtype") is not None:
        parts.append(str(scorer["dtype"]))
    return ", ".join(part for part in parts if part)


def _preset(config: Mapping[str, Any]) -> str:
    """The preset that a configuration differs least from, and in what."""
    from discffusion.config import ScoreConfig, preset_names

    try:
        presets = {name: plain(ScoreConfig.preset(name).to_dict(), name) for name in preset_names()}
    except InstallationError:  # rows can be read without the core
        return ""
    fields = {field: value for field, value in config.items() if field not in _NO_EFFECT}
    if fields.get("noise_levels") or fields.get("timesteps"):  # which say it all
        fields = {field: value for field, value in fields.items() if value is not None}
    changes = {
        name: [f"{field}={value}" for field, value in fields.items() if preset.get(field) != value]
        for name, preset in presets.items()
    }
    nearest = min(changes, key=lambda name: len(changes[name]))
    return ", ".join([f"preset {nearest}", *changes[nearest]])


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def plain(value: Any, where: str) -> Any:
    """`value` as JSON gives it back: dicts with string keys, lists, text, numbers and None.

    Raises:
        ConfigError: it holds something else; the message says `where`.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ConfigError(f"{where} holds {value!r}; expected finite numbers")
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(entry, f"{where}, {name}") for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry, where) for entry in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(entry, where) for entry in value), key=repr)
    if hasattr(value, "tolist"):  # numpy scalars and arrays, torch tensors
        return plain(value.tolist(), where)
    if hasattr(value, "__fspath__"):
        return str(value)
    raise ConfigError(
        f"{where} holds {type(value).__name__}; expected plain data (text, numbers, lists, dicts)"
    )


def digest(settings: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that stand for the settings in each row."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def difference(was: Any, now: Any, name: str = "") -> str | None:
    """The first thing that is not the same, with both values; None if all is."""
    if isinstance(was, dict) and isinstance(now, dict):
        differences = (
            difference(was.get(key), now.get(key), f"{name} {key}".strip())
            for key in dict.fromkeys([*was, *now])
        )
        return next((text for text in differences if text is not None), None)
    return None if was == now else f"{name} was {_shown(was)} and is {_shown(now)}"


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else text[:117] + "..."
