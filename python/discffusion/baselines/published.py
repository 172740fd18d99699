"""Models as transformers publishes and loads them: from a folder or the hub, whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from discffusion._extras import need
from discffusion._version import __version__
from discffusion.errors import CheckpointError, InstallationError

__all__ = ["EXTRA", "FILES", "ModelSource", "digest", "first_line", "load_model", "load_part", "versions"]

#: the optional dependencies that bring transformers
EXTRA = "baselines"


class ModelSource:
    """Where a model is: a folder, or a repository of the hub, of which the cache is asked first.

    Args:
        model: a folder or a hub id.
        files: patterns of the files that are fetched; never pickles.
        revision: branch, tag or commit of a hub repository.
        cache_dir: huggingface_hub's cache, if not the usual one.
        local_files_only: never use the network; ``HF_HUB_OFFLINE`` says the same.

    Raises:
        CheckpointError: `model` is neither.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        files: Sequence[str],
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
    ) -> None:
        if not isinstance(model, str | os.PathLike) or not os.fspath(model):
            raise CheckpointError(f"a model is a folder or a hub id, not {model!r}")
        self.name = str(os.fspath(model))
        folder = Path(self.name).expanduser()
        self._local = folder if folder.is_dir() else None
        if self._local is None and (
            folder.exists() or not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", self.name)
        ):
            raise CheckpointError(
                f"there is no folder {self.name!r}, and it is not a hub id (owner/name); expected a folder with the "
                "model's files, or a hub id"
            )
        self._offline = local_files_only or os.environ.get("HF_HUB_OFFLINE", "").upper() in _YES
        self._options = {"revision": revision, "cache_dir": cache_dir, "allow_patterns": list(files)}
        self._fetched: Path | None = None

    def folders(self) -> Iterator[Path]:
        """Folders that may hold the model: its own; or what the cache has of it, and then all of it, fetched.

        Raises:
            CheckpointError: there is none, or it cannot be fetched.
        """
        if self._local is not None:
            yield self._local
            return
        cached = self._snapshot(local_files_only=True) if self._fetched is None else None
        if cached is not None:
            yield cached
        if self._offline:
            there = "lacks files" if cached is not None else "is not there"
            raise CheckpointError(
                f"the model {self.name!r} {there} in the cache, and network access is disabled (local_files_only or "
                "HF_HUB_OFFLINE); give a folder, or fetch it once with the network"
            )
        self._fetched = self._fetched or self._snapshot(local_files_only=False)
        assert self._fetched is not None
        yield self._fetched

    def digest(self) -> str:
        """16 hexadecimal digits for the files beside the weights: settings, tokenizer, what prepares images."""
        sha = hashlib.sha256()
        folder = next(self.folders())
        for path in sorted(folder.iterdir()):
            if path.suffix in _SETTINGS and not path.name.endswith(".index.json") and path.is_file():
                data = path.read_bytes()
                sha.update(f"{path.name} {len(data)}\n".encode() + data)
        return sha.hexdigest()[:16]

    def _snapshot(self, *, local_files_only: bool) -> Path | None:
        hub = need("huggingface_hub", EXTRA)
        try:
            return Path(hub.snapshot_download(self.name, local_files_only=local_files_only, **self._options))
        except (OSError, ValueError, RuntimeError) as error:
            if local_files_only:
                return None
            raise CheckpointError(
                f"the model {self.name!r} cannot be fetched: {first_line(error)}; give a folder, or fetch it once with "
                "the network"
            ) from None


_YES = {"1", "ON", "YES", "TRUE"}
#: endings of files that are no weights
_SETTINGS = (".json", ".txt", ".model", ".jinja")
#: what transformers needs of a repository
FILES = ("*.json", "*.txt", "*.model", "*.jinja", "model*.safetensors")


def load_part(kind: Any, source: ModelSource, what: str, **options: Any) -> Any:
    """A processor, tokenizer or configuration of a model; `kind` has ``from_pretrained``.

    Raises:
        CheckpointError: it is missing or cannot be read.
    """
    reason = ""
    try:
        for folder in source.folders():
            try:
                with _quiet():
                    return kind.from_pretrained(folder, local_files_only=True, **options)
            except ImportError as error:  # of a package that this model alone needs
                raise InstallationError(f"{source.name!r} cannot be loaded: {first_line(error)}") from None
            except Exception as error:  # what broken files raise there is not to be foreseen
                reason = first_line(error)
    except CheckpointError:
        if not reason:
            raise
    raise CheckpointError(f"{what} of {source.name!r} cannot be loaded: {reason}")


def load_model(kind: Any, source: ModelSource, model_type: str | None, dtype: Any, device: Any) -> Any:
    """The model, in evaluation and without gradients; only safetensors are read.

    Args:
        kind: class of transformers.
        model_type: what ``config.json`` has to say; None for any that `kind` takes.

    Raises:
        CheckpointError: files are missing, or belong to another kind of model, or lack some of its weights.
    """
    transformers = need("transformers", EXTRA)
    config = load_part(transformers.AutoConfig, source, "the configuration")
    if model_type is not None and config.model_type != model_type:
        raise CheckpointError(
            f"{source.name!r} is a model of the type {config.model_type!r}; expected {model_type!r}"
        )
    model, report = load_part(
        kind, source, "the weights", dtype=dtype, use_safetensors=True, output_loading_info=True
    )
    lacking = sorted(report["missing_keys"])
    if lacking:
        raise CheckpointError(
            f"{source.name!r} lacks {len(lacking)} weights of {kind.__name__}, such as {lacking[0]}; transformers "
            "would have drawn them at random"
        )
    return model.to(device).eval().requires_grad_(False)


def first_line(error: Exception) -> str:
    """What another library says of a failure, as part of a message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' report of keys, which is checked here, and its progress bars."""
    notices = need("transformers.utils.logging", EXTRA)
    logger, bars = logging.getLogger("transformers"), notices.is_progress_bar_enabled()
    level = logger.level
    logger.setLevel(logging.ERROR)
    notices.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            notices.enable_progress_bar()


def digest(tensors: dict[str, Any]) -> str:
    """A digest of names, shapes and values of tensors, 32 hexadecimal digits."""
    torch = need("torch", EXTRA)
    sha = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        sha.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        sha.update(value.flatten().view(torch.uint8).numpy())
    return sha.hexdigest()[:32]


def versions(*packages: str) -> dict[str, str]:
    """Versions of this package, torch and others that a score goes through."""
    versions = {"discffusion": __version__}
    for package in ("torch", *packages):
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions
