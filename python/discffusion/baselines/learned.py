"""CLIP with something learned from few items: how it is learned, kept in a file and told."""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion._extras import need
from discffusion._files import replacing
from discffusion._progress import Progress
from discffusion.baselines.clip import ClipBaseline
from discffusion.baselines.decoded import DecodedImages
from discffusion.baselines.fitting import FitOptions, check_items, lower
from discffusion.baselines.published import EXTRA, digest
from discffusion.data.item import MatchItem
from discffusion.data.items import Items
from discffusion.errors import ConfigError, DeltasError

__all__ = ["LearnedClip"]


class LearnedClip(ClipBaseline):
    """Base of the baselines that :meth:`fit`; until then, or until :meth:`load`, there is nothing to score with."""

    learning_rate: float
    _keep_material = True
    _learned: dict[str, Any] | None = None
    _about: dict[str, Any]

    @abstractmethod
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of what is learned."""

    @abstractmethod
    def _first(self, seed: int) -> dict[str, Any]:
        """What training starts from: float32 leaves on the model's device."""

    @abstractmethod
    def _adopt(self, learned: dict[str, Any] | None) -> None:
        """Scores with this from now on, or as published."""

    @abstractmethod
    def _material(self, item: MatchItem) -> Any:
        """What an item is turned into before it is scored, without gradients."""

    @abstractmethod
    def _score(self, material: Any) -> Any:
        """Cosines ``[n_images, n_texts]`` of that, a tensor that gradients flow through."""

    def fit(
        self,
        items: Iterable[MatchItem],
        *,
        epochs: int = 10,
        batch_size: int = 8,
        seed: int = 0,
        learning_rate: float | None = None,
        weight_decay: float = 0.0,
        loss: str = "contrastive",
        margin: float = 0.2,
        progress: Progress = None,
    ) -> list[dict[str, float]]:
        """Learns from items, always from the published weights on; the same call learns the same.

        Args:
            items: as :meth:`discffusion.Trainer.fit` takes them; each is compared with its own candidates alone.
            epochs: how often every item is seen.
            batch_size: items to a step.
            seed: of the order of the items and of what is drawn at the start.
            learning_rate: largest of AdamW, from which a cosine falls to 0; None for the baseline's own.
            weight_decay: decoupled weight decay.
            loss: ``"contrastive"`` (cross-entropy over the item's candidates, at the model's own temperature) or
                ``"triplet"`` (hinge to the hardest of them).
            margin: of the triplet loss, in cosines.
            progress: as in :meth:`discffusion.Trainer.fit`.

        Returns:
            A row an epoch: ``epoch``, from 1, and its mean ``loss``.

        Raises:
            ConfigError: an argument is out of range, or the model is not in float32.
            DatasetError: an item has no matching pair, or nothing to compare it with.
            TrainingError: the loss is not finite.
        """
        rate = self.learning_rate if learning_rate is None else learning_rate
        options = FitOptions(epochs, batch_size, seed, rate, weight_decay, loss, margin)
        if self._dtype != need("torch", EXTRA).float32:
            raise ConfigError("fit needs the model in float32: make it with dtype='float32'")
        given = Items(items, "items")
        check_items(given)
        _ = self._fingerprint  # of what was published, before anything changes
        scale = float(self._model.logit_scale.detach().exp())
        try:
            first = self._first(options.seed)
            rows = lower(
                list(first.values()), given, options, scale, self._material, self._score,
                keep=self._keep_material, progress=progress,
            )  # fmt: skip
        except BaseException:
            self._adopt(self._learned)
            raise
        data = {"source": given.name, "items": len(given), "digest": given.examine()}
        self._take(first, {"training_options": options.to_dict(), "data": data})
        return rows

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes what was learned as one safetensors file, with the model and the options it was learned with.

        Raises:
            ConfigError: nothing was learned yet.
        """
        tensors = {name: value.cpu().contiguous() for name, value in self._need_learned().items()}
        metadata = {"baseline": self.name, "model": self.model_id, "fingerprint": self._fingerprint}
        metadata |= {key: json.dumps(value) for key, value in self._about.items()}
        file = Path(path).expanduser()
        with replacing(file) as temporary:
            need("safetensors.torch", EXTRA).save_file(tensors, temporary, metadata)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Reads what :meth:`save` wrote, for the same baseline and model.

        Raises:
            DeltasError: the file cannot be read or was learned by another baseline or on another model.
        """
        safetensors, torch = need("safetensors", EXTRA), need("torch", EXTRA)
        file = Path(path).expanduser()
        try:
            with safetensors.safe_open(file, "pt") as opened:
                metadata = opened.metadata() or {}
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        except (OSError, safetensors.SafetensorError) as error:
            raise DeltasError(f"{str(file)!r} cannot be read: {error}") from None
        for key, mine in (("baseline", self.name), ("fingerprint", self._fingerprint)):
            if metadata.get(key) != mine:
                raise DeltasError(
                    f"{str(file)!r} belongs to the {key} {metadata.get(key)!r}, and this is {mine!r} ({self.model_id})"
                )
        if {name: tuple(value.shape) for name, value in tensors.items()} != self._shapes():
            raise DeltasError(f"{str(file)!r} does not hold what {self.name} with these options learns")
        try:
            about = {
                key: json.loads(metadata[key]) for key in ("training_options", "data") if key in metadata
            }
        except ValueError:
            about = {}  # only told, never used
        self._take({name: value.to(self._device, torch.float32) for name, value in tensors.items()}, about)

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "deltas": None if self._learned is None else digest(self._learned)}

    def _pairs(self, seen: DecodedImages, texts: list[str], pairs: NDArray[np.int64]) -> NDArray[np.float64]:
        self._need_learned()
        return super()._pairs(seen, texts, pairs)

    def _take(self, learned: dict[str, Any], about: dict[str, Any]) -> None:
        self._learned = {name: value.detach().clone() for name, value in learned.items()}
        self._about = about
        self._adopt(self._learned)

    def _need_learned(self) -> dict[str, Any]:
        if self._learned is None:
            raise ConfigError(
                f"{self.name} has learned nothing yet: call fit(items), or load(path) of a file"
            )
        return self._learned
