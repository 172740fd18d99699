"""The compiled core. Arrays are C-contiguous.

Every exception is one of discffusion.errors' classes, KeyboardInterrupt, or a TypeError of argument conversion.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field
from inspect import Signature
from os import PathLike
from typing import Any, ClassVar, Literal, TypedDict, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "TORCH_VERSION",
    "Deltas",
    "Prepared",
    "ScoreConfig",
    "Scorer",
    "Tokenizer",
    "Trainer",
    "__version__",
    "after_fork_in_child",
    "before_fork",
    "config_options",
    "cuda_available",
    "cuda_device_count",
    "decode_image",
    "decode_latents",
    "did_you_mean",
    "explain",
    "families",
    "family_of",
    "generate",
    "generate_check",
    "generate_options",
    "preprocess_image",
    "train_check",
    "train_options",
    "weights_stem",
]

__version__: str
TORCH_VERSION: str

# numbers of heads by layer, and denoising terms
_Numbers = tuple[dict[str, NDArray[np.float32]], NDArray[np.float64] | None]

class _Encoding(TypedDict):
    ids: NDArray[np.int64]
    strings: list[str]
    offsets: list[tuple[int, int]]
    content: tuple[int, int]
    needed: int
    truncated: bool

class _Tokens(TypedDict):
    ids: NDArray[np.int64]
    strings: list[str]
    offsets: list[tuple[int, int]]
    # the kind of text encoder, its columns, and the text's own of them
    segments: list[tuple[str, tuple[int, int], tuple[int, int] | None]]
    needed: int
    truncated: bool
    ids_by_encoder: list[NDArray[np.int64]]

class _Observation(TypedDict):
    maps: dict[str, NDArray[np.float32]]
    prediction: NDArray[np.float32] | None
    latent: NDArray[np.float32]
    clean: NDArray[np.float32]
    noise: NDArray[np.float32]
    tokens: _Tokens

class _Explained(TypedDict):
    tokens: _Tokens
    timesteps: list[int] | list[float]
    view: tuple[float, float, float, float]
    scores: NDArray[np.float64]
    denoising: NDArray[np.float64]
    prior: NDArray[np.float64]
    contributions: dict[str, NDArray[np.float64]]
    places: NDArray[np.float64] | None
    maps: dict[str, NDArray[np.float32]]
    by_timestep: NDArray[np.float32]

class _Gradients(TypedDict):
    loss: float
    gradients: dict[str, NDArray[np.float32]]
    timesteps: NDArray[np.int64] | NDArray[np.float64]
    noise: NDArray[np.float32]
    scores: list[list[tuple[tuple[int, int], float]]]

def cuda_available() -> bool: ...
def families() -> str: ...
def family_of(index: str) -> str: ...
def weights_stem(part: str) -> str: ...
def did_you_mean(name: str, names: Sequence[str]) -> str: ...
def cuda_device_count() -> int: ...
def before_fork() -> None: ...
def after_fork_in_child() -> None: ...
def config_options() -> list[dict[str, Any]]: ...
def train_options() -> list[dict[str, Any]]: ...
def generate_options() -> list[dict[str, Any]]: ...
def train_check(options: Mapping[str, Any]) -> dict[str, Any]: ...
def decode_image(data: bytes) -> NDArray[np.uint8]: ...
def preprocess_image(
    image: bytes | NDArray[np.uint8], height: int, width: int, via: int | None, resize: str
) -> NDArray[np.uint8]: ...
def explain(
    scorer: Scorer,
    image: bytes | NDArray[np.uint8],
    text: str,
    map: str,
    layers: str | Sequence[str],
    config: ScoreConfig,
    noise: NDArray[np.float32] | None,
    progress: Callable[[int, int], Any] | None,
) -> _Explained: ...
def generate_check(scorer: Scorer, options: Mapping[str, Any]) -> dict[str, Any]: ...
def generate(
    scorer: Scorer,
    prompts: Sequence[str],
    negatives: Sequence[str],
    seeds: Sequence[int],
    options: Mapping[str, Any],
    latents: NDArray[np.float32] | None,
    noise: NDArray[np.float32] | None,
    progress: Callable[[int, int], Any] | None,
) -> list[NDArray[np.uint8]]: ...
def decode_latents(scorer: Scorer, latents: NDArray[np.float32]) -> NDArray[np.float32]: ...

# Options, written by tools/core_stub.py

class _TrainOptions(TypedDict, total=False):
    loss: Literal["triplet", "cross_entropy", "binary_cross_entropy", "diffusion"]
    margin: float
    temperature: float | None
    temperature_schedule: Literal["constant", "noise"]
    negatives: Literal["hardest", "mean"]
    negative_kinds: Literal["both", "image", "text"]
    in_batch: bool
    batch_texts: int
    rank: int | None
    layers: str | Sequence[str]
    projections: Literal["kv", "k", "v"]
    modalities: Literal["text", "both"]
    learning_rate: float
    weight_decay: float
    schedule: Literal["constant", "cosine"]
    warmup_steps: int
    gradient_clip: float | None
    accumulate: int
    timesteps_per_step: int
    timesteps: Literal["auto", "config", "range", "uniform"]
    recompute: bool
    seed: int

@final
class ScoreConfig:
    """How a score is computed. Frozen, comparable, hashable and JSON-able; an option left out has the default.

    Attributes:
        method: What the score is made of.
        denoising_weight: Weight of the denoising term where method is combined; 0 or more.
        denoising_error: Distance of a prediction from its target.
        denoising_target: What the denoising error is of: the prediction, or the noise that it implies.
        unconditional: Whether the denoising error is compared with that for the empty text.
        map: Which cross-attention map is pooled.
        pooling: How a map becomes a number.
        lambda_: Sharpness of LogSumExp pooling; 1e-6 to 1e6.
        tokens: Which text tokens are pooled: all, or the prompt's own.
        layers: Which cross-attention layers count; or a list of layers such as down.0.1, mid.0, up.3.2.
        heads: How the heads of a layer are averaged; or a list of head indices.
        attribution: How heads are weighted where heads is attributed.
        attribution_steps: Steps of the integral where attribution is integrated; 1 to 1000.
        prior: What is subtracted for a text, whatever the image: its score with null images; default:
            nothing.
        prior_weight: Weight of what prior subtracts; 0 or more.
        steps: Number of timesteps to average over: evenly spaced noise levels of noise_range; 1 or more.
        noise_range: Lowest and highest noise level that steps are spread over; each 0 to 1; none: the
            model's whole schedule.
        timesteps: Timesteps to average over, instead of steps; 0 is without noise; each 0 or more.
        noise_levels: Noise levels to average over, instead of steps; each 0 to 1.
        resolution: Side of the square that images are resized to; 1 to 16384 pixels; default: the model's
            own.
        via: Side of the square that images are resized to first (Table 1 of the paper); 1 to 16384 pixels;
            default: images are resized once.
        resize: How images become square.
        original_size: Height and width of the image before resizing, a conditioning input of Stable
            Diffusion XL; each 1 to 16384 pixels; default: the model's own.
        crops_coords_top_left: Top and left coordinates of the crop, a conditioning input of Stable
            Diffusion XL; each 0 to 16384 pixels; default: 0, 0.
        target_size: Desired height and width of the image, a conditioning input of Stable Diffusion XL;
            each 1 to 16384 pixels; default: the model's own.
        batch_size: Evaluations of the network at a time; never changes a score; 1 to 65536.
        truncate: What is done with texts longer than the model's context length.
        seed: Seed of the noise; 0 or more.

    Raises:
        ConfigError: an option is unknown or out of range; the message names it.
    """

    PRESETS: ClassVar[tuple[str, ...]]
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    __signature__: ClassVar[Signature]

    def __new__(
        cls,
        *,
        method: Literal["attention", "denoising", "combined", "calibrated"] = ...,
        denoising_weight: float = ...,
        denoising_error: Literal["norm", "mse"] = ...,
        denoising_target: Literal["prediction", "noise"] = ...,
        unconditional: bool = ...,
        map: Literal["probs", "logits", "cosine", "text_probs"] = ...,
        pooling: Literal["lse", "max_row", "max_col", "mean"] = ...,
        lambda_: float = ...,
        tokens: Literal["all", "content"] = ...,
        layers: str | Sequence[str] = ...,
        heads: str | Sequence[int] = ...,
        attribution: Literal["local", "full", "integrated", "elementwise"] = ...,
        attribution_steps: int = ...,
        prior: Literal["null"] | None = ...,
        prior_weight: float = ...,
        steps: int | None = ...,
        noise_range: Sequence[float] | None = ...,
        timesteps: Sequence[float] | None = ...,
        noise_levels: Sequence[float] | None = ...,
        resolution: int | None = ...,
        via: int | None = ...,
        resize: Literal["squash", "crop"] = ...,
        original_size: Sequence[int] | None = ...,
        crops_coords_top_left: Sequence[int] | None = ...,
        target_size: Sequence[int] | None = ...,
        batch_size: int | Literal["auto"] = ...,
        truncate: Literal["error", "warn", "silent"] = ...,
        seed: int = ...,
    ) -> ScoreConfig: ...
    @property
    def method(self) -> Literal["attention", "denoising", "combined", "calibrated"]: ...
    @property
    def denoising_weight(self) -> float: ...
    @property
    def denoising_error(self) -> Literal["norm", "mse"]: ...
    @property
    def denoising_target(self) -> Literal["prediction", "noise"]: ...
    @property
    def unconditional(self) -> bool: ...
    @property
    def map(self) -> Literal["probs", "logits", "cosine", "text_probs"]: ...
    @property
    def pooling(self) -> Literal["lse", "max_row", "max_col", "mean"]: ...
    @property
    def lambda_(self) -> float: ...
    @property
    def tokens(self) -> Literal["all", "content"]: ...
    @property
    def layers(self) -> str | tuple[str, ...]: ...
    @property
    def heads(self) -> str | tuple[int, ...]: ...
    @property
    def attribution(self) -> Literal["local", "full", "integrated", "elementwise"]: ...
    @property
    def attribution_steps(self) -> int: ...
    @property
    def prior(self) -> Literal["null"] | None: ...
    @property
    def prior_weight(self) -> float: ...
    @property
    def steps(self) -> int | None: ...
    @property
    def noise_range(self) -> tuple[float, float] | None: ...
    @property
    def timesteps(self) -> tuple[float, ...] | None: ...
    @property
    def noise_levels(self) -> tuple[float, ...] | None: ...
    @property
    def resolution(self) -> int | None: ...
    @property
    def via(self) -> int | None: ...
    @property
    def resize(self) -> Literal["squash", "crop"]: ...
    @property
    def original_size(self) -> tuple[int, int] | None: ...
    @property
    def crops_coords_top_left(self) -> tuple[int, int] | None: ...
    @property
    def target_size(self) -> tuple[int, int] | None: ...
    @property
    def batch_size(self) -> int | Literal["auto"]: ...
    @property
    def truncate(self) -> Literal["error", "warn", "silent"]: ...
    @property
    def seed(self) -> int: ...
    @staticmethod
    def preset(name: str) -> ScoreConfig:
        """A named configuration.

        ``"default"``; ``"attention"``, the best attention score that was measured on the pocket model; ``"paper"``, the
        method as published; ``"release"``, the authors' released code.
        """
    @classmethod
    def make(cls, config: ScoreConfig | str | Mapping[str, Any] | None = None, **fields: Any) -> ScoreConfig:
        """A configuration from what users give: one, a preset's name, a mapping or None; then changed by `fields`."""
    def replace(self, **fields: Any) -> ScoreConfig:
        """A copy with some fields changed.

        One of steps, timesteps and noise_levels takes the others' place. Where it is steps, they are spread over the
        noise_range of this configuration, or over the default one if this configuration named its noise levels.
        """
    def to_dict(self) -> dict[str, Any]:
        """All fields by name, as plain data (lists, not tuples). Those added later are left out while None."""
    def changes(self) -> dict[str, Any]:
        """The fields that differ from the default configuration."""
    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ScoreConfig:
        """The configuration with these fields; the others have their defaults.

        One that :meth:`to_dict` wrote before there was `noise_range` means what it meant: the whole schedule.
        """
    def to_json(self) -> str:
        """All fields of :meth:`to_dict`, in order, as a JSON object."""
    @staticmethod
    def from_json(text: str) -> ScoreConfig:
        """The configuration that :meth:`to_json` wrote."""
    def __replace__(self, **fields: Any) -> ScoreConfig: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[Any, ...]: ...
    def __copy__(self) -> ScoreConfig: ...
    def __deepcopy__(self, _memo: Any) -> ScoreConfig: ...
    def __setattr__(self, name: str, value: Any, /) -> None: ...
    def __delattr__(self, name: str, /) -> None: ...

# End of the options

@final
class Tokenizer:
    @staticmethod
    def open(path: str | PathLike[str], m: int) -> Tokenizer: ...
    def encode(self, text: str, truncate: str) -> _Encoding: ...

@final
class Scorer:
    @staticmethod
    def load(
        path: str | PathLike[str],
        variant: str | None,
        device: str,
        dtype: str,
        lazy: bool = True,
        prediction_type: str | None = None,
    ) -> Scorer: ...
    def info(self) -> str: ...
    def identity(self) -> str: ...
    def tokenize(self, text: str, truncate: str) -> _Tokens: ...
    def encode_images(
        self, images: Sequence[bytes | NDArray[np.uint8]], config: ScoreConfig
    ) -> NDArray[np.float32]: ...
    def encode_texts(self, texts: Sequence[str], config: ScoreConfig) -> NDArray[np.float32]: ...
    def encode_pooled(self, texts: Sequence[str], config: ScoreConfig) -> NDArray[np.float32] | None: ...
    def embed_images(
        self, images: Sequence[bytes | NDArray[np.uint8]], config: ScoreConfig
    ) -> NDArray[np.float32]: ...
    def embed_texts(
        self, texts: Sequence[str], config: ScoreConfig, progress: Callable[[int, int], Any] | None
    ) -> NDArray[np.float32]: ...
    def null_latents(self, config: ScoreConfig) -> NDArray[np.float32]: ...
    def blind(
        self, texts: Sequence[str], config: ScoreConfig, progress: Callable[[int, int], Any] | None
    ) -> NDArray[np.float64]: ...
    def check(self, config: ScoreConfig) -> None: ...
    def timesteps(self, config: ScoreConfig) -> list[int] | list[float]: ...
    def alphas_cumprod(self) -> NDArray[np.float32] | None: ...
    def noise(self, config: ScoreConfig) -> NDArray[np.float32]: ...
    def score_pairs(
        self,
        images: Sequence[bytes | NDArray[np.uint8]],
        texts: Sequence[str],
        pairs: NDArray[np.int64],
        config: ScoreConfig,
        noise: NDArray[np.float32] | None,
        progress: Callable[[int, int], Any] | None,
    ) -> NDArray[np.float64]: ...
    def head_scores(
        self,
        images: Sequence[bytes | NDArray[np.uint8]],
        texts: Sequence[str],
        pairs: NDArray[np.int64],
        config: ScoreConfig,
        noise: NDArray[np.float32] | None,
        progress: Callable[[int, int], Any] | None,
    ) -> tuple[_Numbers, _Numbers | None]: ...
    def prepare(
        self,
        images: Sequence[bytes | NDArray[np.uint8]],
        texts: Sequence[str],
        config: ScoreConfig,
        noise: NDArray[np.float32] | None,
    ) -> Prepared: ...
    def observe(
        self,
        image: bytes | NDArray[np.uint8],
        text: str,
        timestep: float,
        layers: Sequence[str] | None,
        map: str,
        want_prediction: bool,
        config: ScoreConfig,
        noise: NDArray[np.float32] | None,
    ) -> _Observation: ...
    def with_deltas(self, deltas: Deltas | None, merge: bool | None) -> Scorer: ...
    def deltas(self) -> Deltas | None: ...
    def with_calibration(
        self,
        config: ScoreConfig,
        layers: Mapping[str, NDArray[np.float64]],
        denoising: NDArray[np.float64] | None,
    ) -> Scorer: ...
    def without_calibration(self) -> Scorer: ...
    def head_weights(
        self,
        image: bytes | NDArray[np.uint8],
        text: str,
        config: ScoreConfig,
        noise: NDArray[np.float32] | None,
    ) -> dict[str, NDArray[np.float32]]: ...

@final
class Prepared:
    def score(
        self, pairs: NDArray[np.int64], steps: Sequence[int], progress: Callable[[int, int], Any] | None
    ) -> NDArray[np.float64]: ...

@final
class Deltas:
    @staticmethod
    def load(path: str | PathLike[str], scorer: Scorer, strict: bool) -> Deltas: ...
    @staticmethod
    def from_arrays(
        arrays: Mapping[str, NDArray[np.float32]], metadata: Mapping[str, str], scorer: Scorer, strict: bool
    ) -> Deltas: ...
    def save(self, path: str | PathLike[str], metadata: Mapping[str, str]) -> None: ...
    def export_lora(self, path: str | PathLike[str], format: str, rank: int | None) -> float: ...
    def info(self, scorer: Scorer | None = None) -> str: ...
    def arrays(self) -> dict[str, NDArray[np.float32]]: ...

@final
class Trainer:
    @staticmethod
    def new(scorer: Scorer, options: Mapping[str, Any], config: ScoreConfig) -> Trainer: ...
    @property
    def steps(self) -> int: ...
    @property
    def timesteps(self) -> Literal["config", "range", "uniform"]: ...
    def info(self) -> str: ...
    def check_texts(self, texts: Sequence[str]) -> int: ...
    def ensure(self, indices: Sequence[int]) -> list[int]: ...
    def add(
        self,
        index: int,
        images: Sequence[bytes | NDArray[np.uint8]],
        texts: Sequence[str],
        matches: NDArray[np.bool_],
    ) -> None: ...
    def order(self, epoch: int, count: int) -> list[int]: ...
    def calibrate(self, indices: Sequence[int]) -> float: ...
    def step(self, indices: Sequence[int], total_steps: int) -> str: ...
    def share(
        self, indices: Sequence[int], first: int, of: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
    def apply(
        self, gradient: NDArray[np.float64], statistics: NDArray[np.float64], total_steps: int
    ) -> str | None: ...
    def gradients(self, indices: Sequence[int]) -> _Gradients: ...
    def deltas(self) -> Deltas: ...
    def set_deltas(self, deltas: Deltas) -> None: ...
    def save(self, path: str | PathLike[str], extra: str) -> None: ...
    def load(self, path: str | PathLike[str]) -> str: ...
