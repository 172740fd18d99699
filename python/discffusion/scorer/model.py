"""A model that is loaded, with its configuration, deltas and calibration: what it is, how it is copied and closed."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from discffusion import _memory, _native, hub
from discffusion._arguments import torch_name
from discffusion._unfamiliar import UnfamiliarInputs
from discffusion._version import __version__
from discffusion.deltas import Deltas
from discffusion.errors import ConfigError, DiscffusionError
from discffusion.scorer import copying

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from discffusion import _core as compiled
    from discffusion.calibration import Calibration
    from discffusion.config import ScoreConfig

__all__ = ["PREPROCESS_VERSION", "SCORE_VERSION", "LoadedModel"]

#: Raised when a score of the same request changes by more than rounding.
SCORE_VERSION = 2
#: Raised when decoding or resizing of images changes.
PREPROCESS_VERSION = 1


class LoadedModel:
    """A checkpoint in memory, a configuration, deltas and a calibration. Copies share the weights."""

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        device: Any = "auto",
        dtype: Any = "auto",
        config: ScoreConfig | str | Mapping[str, Any] | None = None,
        lazy: bool = True,
        revision: str | None = None,
        variant: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
        prediction_type: str | None = None,
        **fields: Any,
    ) -> None:
        core = _native.core()
        self._config: ScoreConfig = core.ScoreConfig.make(config, **fields)
        if not isinstance(lazy, bool):
            raise ConfigError(f"lazy is {lazy!r}; expected True or False")
        folder, self._model_id = hub.resolve(
            model,
            revision=revision,
            variant=variant,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            token=token,
        )
        where, kind = torch_name(device, "device"), torch_name(dtype, "dtype").removeprefix("torch.")
        _native.load_cuda(where)
        loaded = core.Scorer.load(str(folder), variant, where, kind, lazy, prediction_type)
        bundled = folder == hub.resolve()[0]
        self._state = copying.State(loaded, calibration=_bundled_calibration() if bundled else None)
        self._model.check(self._config)
        # what a pickle of this scorer opens the model by; every argument but config, device and dtype
        self._source = copying.source(
            folder,
            self._model_id,
            lazy=lazy,
            revision=revision,
            variant=variant,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            token=token,
            prediction_type=prediction_type,
        )
        copying.refuse_parts(core)
        self._unfamiliar = UnfamiliarInputs() if bundled else None
        self._revision = hub.commit_of(folder)

    @classmethod
    def from_pretrained(
        cls,
        id_or_path: str | os.PathLike[str] | None = None,
        revision: str | None = None,
        variant: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
        **options: Any,
    ) -> Self:
        """The same as the constructor, with the arguments that ``from_pretrained`` has elsewhere."""
        return cls(
            id_or_path,
            revision=revision,
            variant=variant,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            token=token,
            **options,
        )

    def load_deltas(
        self, path: str | os.PathLike[str] | Deltas, *, strict: bool = True, merge: bool | None = None
    ) -> None:
        """Scores with these deltas from now on, in place of others; the weights themselves stay as they are.

        Args:
            path: a file or folder of deltas or LoRA weights, see :meth:`Deltas.load`, or :class:`Deltas`.
            strict: whether deltas made for other weights of the same architecture are an error.
            merge: whether the deltas are added to a copy of the weights once (quicker) or to the results in each
                evaluation (keeps small deltas in half precision); None merges in float32 alone.

        Raises:
            DeltasError: the file cannot be read, or fits another architecture.
            ConfigError: the score is calibrated with other deltas, or with none.
        """
        self._adopt(path if isinstance(path, Deltas) else Deltas.load(path, self, strict=strict), merge)

    @property
    def deltas(self) -> Deltas | None:
        """The deltas that scores are computed with, if any."""
        return self._state.deltas

    def unload_deltas(self) -> None:
        """Scores with the weights alone from now on, as before any deltas were loaded."""
        self._adopt(None)

    def with_deltas(self, deltas: Deltas | None, *, merge: bool | None = None) -> Self:
        """A scorer with these deltas, or with none, and the same weights; cheap. See :meth:`load_deltas`."""
        other = self.with_config()
        other._adopt(deltas, merge)
        return other

    @property
    def calibration(self) -> Calibration | None:
        """The calibration, if there is one. It says nothing of scores of another configuration than its own."""
        return self._state.calibration

    @property
    def has_probability(self) -> bool:
        """Whether there is a calibration of these scores, which makes them probabilities."""
        own = self.calibration
        return (
            own is not None and own.applies(self._config) and own.scorer.get("deltas") == _digest(self.deltas)
        )

    def with_calibration(self, calibration: Calibration | str | os.PathLike[str] | None) -> Self:
        """A scorer of calibrated scores, with the same weights and deltas; cheap.

        Its configuration is that of the calibration, but for ``batch_size``, ``truncate`` and ``seed``.

        Args:
            calibration: what :meth:`Scorer.calibrate` gave, or a file of it; None for the score before.

        Raises:
            ConfigError: the file cannot be read, or the calibration belongs to another model or other deltas.
        """
        other = self.with_config()
        if calibration is None:
            own = self.calibration
            other._weigh(None)
            if own is not None and self._config.method == "calibrated":
                other._config = self._kept(own.before)
            return other
        from discffusion.calibration.calibration import Calibration

        if not isinstance(calibration, Calibration):
            calibration = Calibration.load(calibration)
        calibration.check(self.describe())
        other._weigh(calibration)
        return other.with_config(self._kept(calibration.config))

    @property
    def config(self) -> ScoreConfig:
        """How scores are computed."""
        return self._config

    def with_config(self, config: ScoreConfig | str | Mapping[str, Any] | None = None, **fields: Any) -> Self:
        """A scorer with another configuration and the same weights; cheap. Fields not named stay as they are."""
        _ = self._model  # of a closed scorer there is none
        other = copy.copy(self)
        make = _native.core().ScoreConfig.make
        other._config = make(self._config if config is None else config, **fields)
        other._model.check(other._config)
        return other

    @property
    def model_id(self) -> str:
        """The hub id or the folder that the model came from, or ``"pocket"``."""
        return self._model_id

    @property
    def device(self) -> str:
        """Where the network runs, as ``"cpu"`` or ``"cuda:0"``."""
        return str(self._info["device"])

    @property
    def dtype(self) -> str:
        """The type the network computes in, as ``"float32"``."""
        return str(self._info["dtype"])

    @property
    def num_parameters(self) -> int:
        """Number of parameters of the UNet, the VAE's encoder and the text encoder."""
        return int(self._info["num_parameters"]["total"])

    @property
    def layers(self) -> list[str]:
        """The names of the cross-attention layers, in forward order, as ``"up.3.2"``."""
        return [str(layer["name"]) for layer in self._info["layers"]]

    def info(self) -> dict[str, Any]:
        """What the model is: path, device, dtype, parameters by part, prediction type, resolution, layers.

        ``absent_parts`` are those that it does without, such as a third text encoder, if there are any.
        ``fingerprint`` and ``parts`` are those of :meth:`describe`, ``revision`` is the commit of a hub repository.
        """
        old = {"sites": self._info["layers"]}  # the old name of the key, kept for one release
        return {**self._info, **old, **self._identity, "revision": self._revision}

    def describe(self) -> dict[str, Any]:
        """What a score depends on, and where it was computed, as plain data.

        ``fingerprint`` stands for all weights, configurations and files of the tokenizer, ``parts`` for those of each
        folder; where the model lies makes no difference. For its first use on a machine all weights are read, a
        gigabyte in a tenth of a second from memory, or as fast as the disk is; then it is known by the files' inode,
        size and times.
        ``calibration`` stands for the weights of a calibrated score and for the curve of its probabilities.
        ``score_version`` and ``preprocess_version`` change when the same request gives other numbers than before.

        Raises:
            CheckpointError: a file was written to after the model was loaded from it.
        """
        _, deltas, merge, calibration = self._state
        merged = self.dtype == "float32" if merge is None else merge
        if self._config.method != "calibrated":
            calibration = None
        return {
            "model": self.model_id,
            "revision": self._revision,
            **self._identity,
            "prediction_type": self._info["prediction_type"],
            "deltas": None if deltas is None else deltas.digest(),
            "deltas_merged": None if deltas is None else merged,
            # not None elsewhere: rows of other scores that were written before there were calibrations stay theirs
            **({} if calibration is None else {"calibration": calibration.digest}),
            "config": self._config.to_dict(),
            "timesteps": self._model.timesteps(self._config),
            "dtype": self.dtype,
            "device": self.device,
            "score_version": SCORE_VERSION,
            "preprocess_version": PREPROCESS_VERSION,
            "versions": {"discffusion": __version__, "torch": _native.torch_version()},
        }

    def memory(self) -> dict[str, int]:
        """Bytes: of the weights, and of the whole process in main memory now and at its peak."""
        return {"weights": self.num_parameters * _memory.item_size(self.dtype), **_memory.process()}

    def close(self) -> None:
        """Lets go of the weights. Scorers that share them keep them; further calls of this one are errors."""
        self.__dict__.pop("_info", None)
        self.__dict__.pop("_identity", None)
        copying.forget(self)
        self._state = copying.State()

    def __copy__(self) -> Self:
        """Another scorer with the same configuration, deltas and weights, which are shared; cheap."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """The same as a copy: weights and deltas do not change, so nothing is gained by a second set of them."""
        other = copy.copy(self)
        memo[id(self)] = other
        for name in self.__dict__.keys() - copying.OWN:
            other.__dict__[name] = copy.deepcopy(self.__dict__[name], memo)
        return other

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle holds no weights: it names the model, its device and dtype, and holds the configuration and deltas.

        Who reads it opens the same folder, or the same commit of the hub's repository, and gets a CheckpointError if
        another model lies there. One process opens the model once for all pickles of it that follow each other. A
        token is not in it.
        """
        return copying.reduce(self, LoadedModel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        core, given, *_ = self._state
        if core is None:
            return f"Scorer({self._model_id!r}, closed)"
        changed = "".join(f", {name}={value!r}" for name, value in self._config.changes().items())
        deltas = "" if given is None else f", deltas={given!r}"
        return f"Scorer({self._model_id!r}, device={self.device!r}, dtype={self.dtype!r}{changed}{deltas})"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<code>{escape(repr(self))}</code>"

    @property
    def _core(self) -> compiled.Scorer | None:
        return self._state.core

    @property
    def _model(self) -> compiled.Scorer:
        core = self._core
        if core is None:
            raise DiscffusionError(f"this Scorer of {self._model_id!r} is closed; make a new one")
        return core

    def _adopt(self, deltas: Deltas | None, merge: bool | None = None) -> None:
        if merge is not None and not isinstance(merge, bool):
            raise ConfigError(f"merge is {merge!r}; expected True, False or None")
        calibration = self.calibration
        if calibration is not None and _digest(deltas) != _digest(self.deltas):
            if self._config.method == "calibrated":
                raise ConfigError(
                    "the calibration of this Scorer belongs to the deltas that it has, not to others; load those onto "
                    "scorer.with_calibration(None) and calibrate that again"
                )
            calibration = None
        core = self._model.with_deltas(None if deltas is None else deltas._core, merge)
        if self.calibration is not None:
            core = _weighed(core, calibration)
        self._state = copying.State(core, deltas, merge, calibration)

    def _trained(self, deltas: Deltas) -> Self:
        """With these deltas. The weights of a calibrated score stay, although they were fitted with other deltas."""
        if self._config.method != "calibrated":
            return self.with_deltas(deltas)
        other = self.with_config()
        core = _weighed(self._model.with_deltas(deltas._core, None), self.calibration)
        other._state = copying.State(core, deltas, None, self.calibration)
        return other

    def _weigh(self, calibration: Calibration | None) -> None:
        """Takes a calibration of this model with its deltas, or none; the configuration stays."""
        self._state = self._state._replace(core=_weighed(self._model, calibration), calibration=calibration)

    def _kept(self, config: ScoreConfig) -> ScoreConfig:
        """A configuration with those options of this scorer that do not belong to a calibration."""
        own = self._config
        return config.replace(batch_size=own.batch_size, truncate=own.truncate, seed=own.seed)

    def _notice(self, images: Sequence[Any], texts: Sequence[str]) -> None:
        """Warns once if the bundled model is asked of what it does not know; images are prepared ones."""
        if self._unfamiliar is not None:
            self._unfamiliar.examine(images, texts)

    @cached_property
    def _info(self) -> dict[str, Any]:
        info: dict[str, Any] = json.loads(self._model.info())
        return info

    @cached_property
    def _identity(self) -> dict[str, Any]:
        parts: dict[str, str] = json.loads(self._model.identity())
        together = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return {"fingerprint": together[:16], "parts": parts}


@cache
def _bundled_calibration() -> Calibration | None:
    """The calibration of the bundled model's default score, which comes with it; None while it is being fitted."""
    from discffusion.calibration.calibration import Calibration
    from discffusion.pocket import CALIBRATION

    return Calibration.load(CALIBRATION) if CALIBRATION.exists() else None


def _weighed(core: compiled.Scorer, calibration: Calibration | None) -> compiled.Scorer:
    weights = None if calibration is None else calibration.weights
    if calibration is None or weights is None:
        return core.without_calibration()
    return core.with_calibration(calibration.config, weights.by_layer(), weights.error)


def _digest(deltas: Deltas | None) -> str | None:
    return None if deltas is None else deltas.digest()
