"""What training adds to the weights (Eq. 5): :class:`Deltas`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from discffusion import _native
from discffusion._layers import select
from discffusion._lora_files import find, is_pickled, read_pickled
from discffusion.errors import ConfigError, DeltasError
from discffusion.plot.figure import new_figure
from discffusion.plot.histogram import histogram, shares

if TYPE_CHECKING:
    from discffusion import _core
    from discffusion.scorer.model import LoadedModel

__all__ = ["Deltas"]


class Deltas:
    """What is added to the weights of attention layers; belongs to one architecture, and does not change.

    Made by training, by :meth:`load` or by :meth:`from_arrays`.
    """

    def __init__(self, core: _core.Deltas, about: Mapping[str, Any] | None = None) -> None:
        self._core = core
        self._about = dict(about or {})

    @classmethod
    def load(cls, path: str | os.PathLike[str], scorer: LoadedModel, *, strict: bool = True) -> Deltas:
        """Reads deltas for the model of `scorer`.

        Args:
            path: a file of ours, or LoRA weights in the layout of the authors' release, of diffusers, peft or kohya, as
                safetensors or as ``.bin`` (read by torch's weights-only reader); or a folder that holds one of them.
            strict: whether deltas made for other weights of the same architecture are an error.

        Raises:
            DeltasError: the file cannot be read, holds a key that stands for nothing in this model, or does not fit.
        """
        file = find(path)
        if is_pickled(file):
            arrays, metadata = read_pickled(file)
            try:
                return cls(_native.core().Deltas.from_arrays(arrays, metadata, scorer._model, bool(strict)))
            except DeltasError as error:
                raise DeltasError(f"{file}: {error}") from None
        return cls(_native.core().Deltas.load(str(file), scorer._model, bool(strict)))

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, Any],
        scorer: LoadedModel,
        metadata: Mapping[str, Any] | None = None,
        *,
        strict: bool = True,
    ) -> Deltas:
        """Deltas from arrays by the names they would have in a file; see :meth:`load`."""
        ready = {str(name): _float32(name, array) for name, array in arrays.items()}
        return cls(
            _native.core().Deltas.from_arrays(ready, _as_text(metadata or {}), scorer._model, bool(strict))
        )

    def save(self, path: str | os.PathLike[str], metadata: Mapping[str, Any] | None = None) -> None:
        """Writes one safetensors file; a crash leaves the old one or the new one.

        Args:
            metadata: plain data to keep with the deltas, beside what is known of them.
        """
        self._core.save(str(Path(path).expanduser()), _as_text({**self._about, **(metadata or {})}))

    def export_lora(
        self, path: str | os.PathLike[str], format: str = "diffusers", rank: int | None = None
    ) -> float:
        """Writes LoRA weights that other programs load.

        Args:
            path: a file for diffusers, a folder for peft.
            format: ``"diffusers"`` (``pipeline.load_lora_weights``) or ``"peft"`` (``PeftModel.from_pretrained``).
            rank: what dense deltas are reduced to; None keeps all of them. Low-rank deltas keep their rank.

        Returns:
            The relative error of the export, 0 where nothing is lost.
        """
        if format not in ("diffusers", "peft"):
            raise ConfigError(f"format is {format!r}; expected 'diffusers' or 'peft'")
        return self._core.export_lora(str(Path(path).expanduser()), format, rank)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The numbers, float32, as a file names them: ``….delta`` ``[out, in]``, or ``….down`` and ``….up``."""
        return self._core.arrays()

    def products(self) -> dict[str, NDArray[np.float32]]:
        """What is added to each weight, float32 ``[out, in]`` by module path: the delta, or ``up`` times ``down``."""
        arrays = self.arrays()
        return {name: _product(arrays, name) for name in (entry["name"] for entry in self.entries)}

    def info(self) -> dict[str, Any]:
        """Everything that is known but the numbers: rank, layers, parameters, metadata, head weights, entries."""
        return {**self._info, "metadata": self.metadata, "entries": self.entries}

    @property
    def rank(self) -> int | None:
        """The rank of all deltas, or None if they are dense."""
        rank: int | None = self._info["rank"]
        return rank

    @property
    def layers(self) -> list[str]:
        """The layers that are changed, as ``down.0.1``, in forward order."""
        return list(self._info["layers"])

    @property
    def num_parameters(self) -> int:
        """How many numbers the deltas are."""
        return int(self._info["parameters"])

    @property
    def entries(self) -> list[dict[str, Any]]:
        """A row for each changed weight: where it is, its kind, shape and rank, and how large the change is."""
        return [
            # "site" is the old name of "layer", kept for one release
            {name: value for name, value in entry.items() if name != "relative_norm"}
            | {"site": entry["layer"]}
            for entry in self._info["entries"]
        ]

    @property
    def head_weights(self) -> dict[str, list[float]] | None:
        """By layer, the weights of heads that training found (appendix J), mean 1; used where heads is learned."""
        weights: dict[str, list[float]] | None = self._info["head_weights"]
        return weights

    @property
    def metadata(self) -> dict[str, Any]:
        """What is kept with the deltas: base model, score, options, data, steps, as far as it is known."""
        return {**{key: _as_data(text) for key, text in self._info["metadata"].items()}, **self._about}

    def norms(self, relative_to: LoadedModel | None = None) -> dict[str, float]:
        """The Frobenius norm of each delta by module path; with a scorer, divided by that of its own weight."""
        if relative_to is None:
            return {entry["name"]: entry["norm"] for entry in self.entries}
        entries = json.loads(self._core.info(relative_to._model))["entries"]
        return {entry["name"]: entry["relative_norm"] for entry in entries}

    def sparsity(self, threshold: float = 1e-3) -> dict[str, float]:
        """By module path, the share of numbers whose size is at most `threshold` times the largest of that delta."""
        if not 0 <= threshold < 1:
            raise ConfigError(f"threshold is {threshold!r}; expected a number from 0 to below 1")
        return {name: _share_near_zero(p, threshold) for name, p in self.products().items()}

    def histogram(
        self, bins: int = 100, *, layers: str | Iterable[str] | None = None, limit: float | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """How the numbers that are added to the weights are distributed (Figure 7).

        Args:
            bins: number of equal intervals between ``-limit`` and ``limit``.
            layers: only what belongs to these layers, named as in :meth:`Scorer.observe`; None for all.
            limit: None for the largest size there is; what lies beyond counts in the outer intervals.

        Returns:
            Counts int64 ``[bins]`` and the edges of the intervals, float64 ``[bins + 1]``.
        """
        if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
            raise ConfigError(f"bins is {bins!r}; expected a whole number above 0")
        chosen = [entry["name"] for entry in self._entries_of(layers)]
        arrays = self.arrays()
        if limit is None:
            limit = max(float(np.abs(_product(arrays, name)).max()) for name in chosen) or 1.0
        edges = np.linspace(-limit, limit, bins + 1)
        counts = np.zeros(bins, dtype=np.int64)
        for name in chosen:  # one at a time: all of a large model's at once would be gigabytes
            counts += np.histogram(np.clip(_product(arrays, name), -limit, limit), edges)[0]
        return counts, edges

    def plot(
        self, bins: int = 100, *, layers: str | Iterable[str] | None = None, threshold: float = 0.1
    ) -> Any:
        """How the added numbers are distributed, and by layer how many are near zero (Figure 7).

        Args:
            bins, layers: as of :meth:`histogram`.
            threshold: "near zero" is at most this share of a delta's largest number.

        Returns:
            A matplotlib Figure.

        Raises:
            InstallationError: matplotlib is not installed.
        """
        counted = self.histogram(bins, layers=layers)
        of_layer: dict[str, list[float]] = {}
        sparsity = self.sparsity(threshold)
        for entry in self._entries_of(layers):
            of_layer.setdefault(entry["layer"], []).append(sparsity[entry["name"]])
        figure = new_figure((9.0, max(3.5, 1.5 + 0.25 * len(of_layer))))
        left, right = figure.subplots(1, 2, width_ratios=[3, 2])
        histogram(left, {"": counted})
        means = {name: sum(norms) / len(norms) for name, norms in of_layer.items()}
        shares(right, means, f"numbers within {threshold:g} of the largest (%)")
        return figure

    def digest(self) -> str:
        """A hash of names and numbers: equal exactly if the deltas are, bit for bit."""
        sha = hashlib.sha256()
        for name, array in sorted(self.arrays().items()):
            sha.update(f"{name} {array.shape}\n".encode())
            sha.update(array.tobytes())
        return sha.hexdigest()[:32]

    def __copy__(self) -> Deltas:
        return self  # it does not change

    def __deepcopy__(self, memo: dict[int, Any]) -> Deltas:
        return self

    def __repr__(self) -> str:
        kind = (
            f"rank {self.rank}"
            if self.rank is not None
            else " and ".join(sorted({e["kind"] for e in self.entries}))
        )
        return f"Deltas({kind}, {len(self.layers)} layers, {self.num_parameters:,} parameters)"

    def _entries_of(self, layers: str | Iterable[str] | None) -> list[dict[str, Any]]:
        """What belongs to some layers."""
        names = select("all" if layers is None else layers, self.layers)
        if not names:
            raise ConfigError(f"layers is {layers!r}; expected some of {', '.join(self.layers)}")
        return [entry for entry in self.entries if entry["layer"] in names]

    @cached_property
    def _info(self) -> dict[str, Any]:
        info: dict[str, Any] = json.loads(self._core.info())
        return info


def _product(arrays: Mapping[str, NDArray[np.float32]], name: str) -> NDArray[np.float32]:
    dense = arrays.get(f"{name}.delta")
    return arrays[f"{name}.up"] @ arrays[f"{name}.down"] if dense is None else dense


def _share_near_zero(values: NDArray[np.float32], threshold: float) -> float:
    sizes = np.abs(values)
    return float(np.mean(sizes <= threshold * sizes.max()))


def _float32(name: Any, array: Any) -> NDArray[np.float32]:
    if hasattr(array, "detach"):  # a torch tensor; numpy has no bfloat16
        array = array.detach().cpu().float().numpy()
    converted = np.asarray(array)
    if not np.issubdtype(converted.dtype, np.number) or np.iscomplexobj(converted):
        raise DeltasError(f"the array {name!r} has the dtype {converted.dtype}; expected float32")
    return np.array(converted, dtype=np.float32, order="C")  # ascontiguousarray would make a scalar a vector


def _as_text(metadata: Mapping[str, Any]) -> dict[str, str]:
    """As a file keeps it: JSON, by name."""
    try:
        return {str(key): json.dumps(value) for key, value in metadata.items()}
    except (TypeError, ValueError) as error:
        raise ConfigError(f"metadata must be plain data (text, numbers, lists, mappings): {error}") from None


def _as_data(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # another program's
        return text
