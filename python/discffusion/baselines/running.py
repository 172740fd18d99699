"""What the baselines share that torch runs on models of other libraries: options, counting, description."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

from discffusion._arguments import checked_texts, whole_number
from discffusion.baselines.placing import place
from discffusion.baselines.protocol import PairBaseline
from discffusion.baselines.published import FILES, ModelSource, digest, versions
from discffusion.baselines.texts import check_truncate, tell_truncated

__all__ = ["RunningBaseline"]

# texts whose numbers of tokens are kept
_COUNTED = 1 << 18


class RunningBaseline(PairBaseline):
    """Base of the baselines with a model of another library.

    Args:
        model: a folder or a hub id.
        device, dtype: as :class:`discffusion.Scorer` takes them.
        batch_size: how much goes through the model at a time; never changes a score beyond rounding.
        truncate: what happens to texts that are too long: ``"warn"``, ``"silent"`` or ``"error"``.
        revision, cache_dir, local_files_only: for hub ids.

    Raises:
        CheckpointError: the model is missing, incomplete or of another kind.
        ConfigError: an option is out of range.
        DeviceError: the device or dtype is not available.
        InstallationError: the library is not installed.
    """

    #: what a score is, and the packages that it goes through
    unit: str
    packages: tuple[str, ...] = ("transformers",)
    #: what is fetched of a hub repository
    files: tuple[str, ...] = FILES
    _model: Any
    _limit: int  # tokens that the model reads of a text

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        device: Any = "auto",
        dtype: Any = "auto",
        batch_size: int = 32,
        truncate: str = "warn",
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
    ) -> None:
        self._counted: dict[str, int] = {}
        self._batch = whole_number("batch_size", batch_size, 1)
        self._truncate = check_truncate(truncate)
        self._device, self._dtype = place(device, dtype)
        self._source = ModelSource(model, self.files, revision, cache_dir, local_files_only)
        self.model_id = self._source.name
        self._open(self._source)
        self._files = self._source.digest()

    @abstractmethod
    def _open(self, source: ModelSource) -> None:
        """Loads the model and what prepares images and texts."""

    @abstractmethod
    def _lengths(self, texts: list[str]) -> list[int]:
        """Tokens of texts, with BOS and EOS."""

    def count_tokens(self, texts: str | Iterable[str]) -> list[tuple[int, bool]]:
        """For every text its tokens, with BOS and EOS, and whether the model reads fewer."""
        return [(length, length > self._limit) for length in self._counts(checked_texts(texts))]

    def describe(self) -> dict[str, Any]:
        return {
            "baseline": self.name,
            "model": self.model_id,
            "fingerprint": self._fingerprint,
            "parts": {"weights": self._fingerprint, "files": self._files},
            "deltas": None,
            "config": {"score": self.unit, "truncate": self._truncate},
            "dtype": str(self._dtype).removeprefix("torch."),
            "device": str(self._device),
            "score_version": 1,
            "preprocess_version": 1,
            "versions": versions(*self.packages),
        }

    @cached_property
    def _fingerprint(self) -> str:
        return digest(dict(self._model.state_dict()))

    def _tell(self, texts: list[str]) -> None:
        tell_truncated(texts, self._counts(texts), self._limit, self._truncate)

    def _counts(self, texts: list[str]) -> list[int]:
        """Tokens of texts, each counted once."""
        counted = self._counted if len(self._counted) + len(texts) <= _COUNTED else {}
        new = [text for text in dict.fromkeys(texts) if text not in counted]
        if new:
            counted = counted | dict(zip(new, self._lengths(new), strict=True))
            self._counted = counted
        return [counted[text] for text in texts]

    def _chunks(self, values: Any) -> Iterator[Any]:
        return (values[i : i + self._batch] for i in range(0, len(values), self._batch))
