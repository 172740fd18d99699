"""The compiled core. `config` is always the canonical JSON of a ScoreConfig; arrays are C-contiguous.

Every exception is one of discffusion.errors' classes, KeyboardInterrupt, or a TypeError of argument conversion.
"""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, TypedDict, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "TORCH_VERSION",
    "Deltas",
    "Prepared",
    "Scorer",
    "Tokenizer",
    "Trainer",
    "__version__",
    "after_fork_in_child",
    "before_fork",
    "config_check",
    "config_options",
    "config_presets",
    "cuda_available",
    "cuda_device_count",
    "decode_image",
    "decode_latents",
    "explain",
    "families",
    "generate",
    "generate_check",
    "preprocess_image",
    "train_check",
    "train_options",
]

__version__: str
TORCH_VERSION: str

class _Encoding(TypedDict):
    ids: NDArray[np.int64]
    strings: list[str]
    offsets: list[tuple[int, int]]
    content: tuple[int, int]
    needed: int
    truncated: bool

class _Tokens(_Encoding):
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
    timesteps: list[int]
    view: tuple[float, float, float, float]
    scores: NDArray[np.float64]
    denoising: NDArray[np.float64]
    contributions: dict[str, NDArray[np.float64]]
    places: NDArray[np.float64] | None
    maps: dict[str, NDArray[np.float32]]
    by_timestep: NDArray[np.float32]

class _Gradients(TypedDict):
    loss: float
    gradients: dict[str, NDArray[np.float32]]
    timesteps: NDArray[np.int64]
    noise: NDArray[np.float32]
    scores: list[list[tuple[tuple[int, int], float]]]

def cuda_available() -> bool: ...
def families() -> str: ...
def cuda_device_count() -> int: ...
def before_fork() -> None: ...
def after_fork_in_child() -> None: ...
def config_options() -> str: ...
def config_presets() -> str: ...
def config_check(json: str) -> str: ...
def train_options() -> str: ...
def train_check(json: str) -> str: ...
def decode_image(data: bytes) -> NDArray[np.uint8]: ...
def preprocess_image(
    image: bytes | NDArray[np.uint8], height: int, width: int, via: int | None, resize: str
) -> NDArray[np.uint8]: ...
def explain(
    scorer: Scorer,
    image: bytes | NDArray[np.uint8],
    text: str,
    map: str,
    layers: str,
    config: str,
    noise: NDArray[np.float32] | None,
    progress: Callable[[int, int], Any] | None,
) -> _Explained: ...
def generate_check(scorer: Scorer, options: str) -> str: ...
def generate(
    scorer: Scorer,
    prompts: Sequence[str],
    negatives: Sequence[str],
    seeds: Sequence[int],
    options: str,
    latents: NDArray[np.float32] | None,
    noise: NDArray[np.float32] | None,
    progress: Callable[[int, int], Any] | None,
) -> list[NDArray[np.uint8]]: ...
def decode_latents(scorer: Scorer, latents: NDArray[np.float32]) -> NDArray[np.float32]: ...

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
        self, images: Sequence[bytes | NDArray[np.uint8]], config: str
    ) -> NDArray[np.float32]: ...
    def encode_texts(self, texts: Sequence[str], config: str) -> NDArray[np.float32]: ...
    def encode_pooled(self, texts: Sequence[str], config: str) -> NDArray[np.float32] | None: ...
    def embed_images(
        self, images: Sequence[bytes | NDArray[np.uint8]], config: str
    ) -> NDArray[np.float32]: ...
    def embed_texts(
        self, texts: Sequence[str], config: str, progress: Callable[[int, int], Any] | None
    ) -> NDArray[np.float32]: ...
    def check(self, config: str) -> None: ...
    def timesteps(self, config: str) -> list[int]: ...
    def alphas_cumprod(self) -> NDArray[np.float32] | None: ...
    def noise(self, config: str) -> NDArray[np.float32]: ...
    def score_pairs(
        self,
        images: Sequence[bytes | NDArray[np.uint8]],
        texts: Sequence[str],
        pairs: NDArray[np.int64],
        config: str,
        noise: NDArray[np.float32] | None,
        progress: Callable[[int, int], Any] | None,
    ) -> NDArray[np.float64]: ...
    def prepare(
        self,
        images: Sequence[bytes | NDArray[np.uint8]],
        texts: Sequence[str],
        config: str,
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
        config: str,
        noise: NDArray[np.float32] | None,
    ) -> _Observation: ...
    def with_deltas(self, deltas: Deltas | None, merge: bool | None) -> Scorer: ...
    def deltas(self) -> Deltas | None: ...
    def head_weights(
        self,
        image: bytes | NDArray[np.uint8],
        text: str,
        config: str,
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
    def new(scorer: Scorer, options: str, config: str) -> Trainer: ...
    @property
    def steps(self) -> int: ...
    def info(self) -> str: ...
    def check_texts(self, texts: Sequence[str]) -> int: ...
    def has(self, index: int) -> bool: ...
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
