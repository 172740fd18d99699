"""What the caller has set in torch for its thread or process changes no number, and is as it was afterwards."""

from __future__ import annotations

import dataclasses
import inspect
import io
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.python.calibration.made import made
from tests.python.shards.made_up import rows, tars
from tests.python.training_items import item, threads, trainer_of
from torch._subclasses.fake_tensor import FakeTensorMode

import discffusion
from discffusion import Deltas, Scorer, Trainer

IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
TEXTS = ["a red circle", "a blue square left of a green cross"]
SCORE: dict[str, Any] = {
    "config": "attention",
    "noise_levels": [0.4, 0.7],
    "resolution": 64,
    "truncate": "silent",
}
FULL: dict[str, Any] = {"heads": "attributed", "attribution": "full"}


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def denormals_flushed() -> Iterator[None]:
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def zeros(tensor: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(tensor)


CONTEXTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "no_grad": torch.no_grad,
    "enable_grad": torch.enable_grad,
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "meta": lambda: torch.device("meta"),
    "deterministic": deterministic,
    "denormals": denormals_flushed,
    "fake": FakeTensorMode,
    "hooks": lambda: torch.autograd.graph.saved_tensors_hooks(zeros, zeros),
    "anomaly": lambda: torch.autograd.set_detect_anomaly(True),
}

context = pytest.mark.parametrize("name", CONTEXTS)


def state() -> tuple[Any, ...]:
    """What of torch's state a program can ask for."""
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
        torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_anomaly_enabled(),
        torch.get_num_threads(),
        None if fake() else denormal(),
        len(torch.utils._python_dispatch._get_current_dispatch_mode_stack()),
    )


def denormal() -> float:
    return float(torch.tensor(1e-30, device="cpu", dtype=torch.float32) * 1e-10)


def fake() -> bool:
    return bool(torch.utils._python_dispatch._get_current_dispatch_mode_stack())


def bits(value: Any) -> Any:
    """A value in a form in which two are equal only if every bit of every number is."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, float | np.floating):
        return float(value).hex()
    if isinstance(value, PIL.Image.Image):
        return value.size, value.tobytes()
    if isinstance(value, Mapping):
        return {key: bits(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [bits(own) for own in value]
    if isinstance(value, Deltas):
        return bits(value._core.arrays())
    if isinstance(value, Scorer):
        return bits(value.score(IMAGE, TEXTS[0]))
    if dataclasses.is_dataclass(value):
        return {field.name: bits(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "__dict__"):
        return {key: bits(own) for key, own in vars(value).items() if not key.startswith("_")}
    return value


@pytest.fixture(scope="module")
def tiny(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In half precision, so that what is computed with is made on first use."""
    folder = tmp_path_factory.mktemp("half") / "model"
    shutil.copytree(tiny, folder)
    for path in folder.rglob("*.safetensors"):
        halved = {name: tensor.half() for name, tensor in load_file(path).items()}
        save_file(halved, path, metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with threads(1):
        yield


@pytest.fixture(scope="module")
def deltas(tiny: Path) -> Deltas:
    scorer = Scorer(tiny, device="cpu", **SCORE)
    trainer = trainer_of(scorer)
    trainer.fit([item(0), item(1)], progress=False)
    return trainer.deltas


def cold(tiny: Path, **fields: Any) -> Scorer:
    return Scorer(tiny, device="cpu", **{**SCORE, **fields})


def loaded(scorer: Scorer, deltas: Deltas) -> float:
    scorer.load_deltas(deltas)
    return scorer.score(IMAGE, TEXTS[0])


def unloaded(scorer: Scorer, deltas: Deltas) -> float:
    scorer.load_deltas(deltas)
    scorer.unload_deltas()
    return scorer.score(IMAGE, TEXTS[0])


def closed(scorer: Scorer) -> str:
    scorer.score(IMAGE, TEXTS[0])
    scorer.close()
    return repr(scorer)


NOISE = np.random.default_rng(1).standard_normal((2, 4, 8, 8)).astype(np.float32)
LATENTS = np.random.default_rng(2).standard_normal((1, 4, 8, 8)).astype(np.float32)
PICTURE: dict[str, Any] = {"height": 64, "width": 64, "steps": 2}

# Every public name of a Scorer, and what is asked of it.
SCORER: dict[str, Callable[[Scorer, Deltas], Any]] = {
    "from_pretrained": lambda s, d: s.from_pretrained(s.model_id, device="cpu", **SCORE),
    "score": lambda s, d: [s.score(IMAGE, TEXTS[1]), s.score(IMAGE, TEXTS[1], noise=NOISE)],
    "matrix": lambda s, d: s.matrix([IMAGE, 255 - IMAGE], TEXTS),
    "score_pairs": lambda s, d: s.score_pairs([IMAGE], TEXTS, [(0, 1), (0, 0)], per_step=True),
    "rank": lambda s, d: s.rank([IMAGE, 255 - IMAGE], TEXTS[0]),
    "staged": lambda s, d: s.staged((1, 2), 0.5).matrix([IMAGE, 255 - IMAGE], TEXTS),
    "observe": lambda s, d: s.observe(IMAGE, TEXTS[0], 300, noise=NOISE[0]),
    "explain": lambda s, d: s.explain(IMAGE, TEXTS[1]),
    "tokenize": lambda s, d: s.tokenize(TEXTS[1]),
    "count_tokens": lambda s, d: s.count_tokens(TEXTS),
    "encode_images": lambda s, d: s.encode_images([IMAGE]),
    "embed_images": lambda s, d: s.embed_images([IMAGE]),
    "embed_texts": lambda s, d: s.embed_texts(TEXTS),
    "blind": lambda s, d: s.with_config(seed=1).blind(TEXTS),
    "decode_latents": lambda s, d: s.decode_latents(LATENTS),
    "generate": lambda s, d: [
        s.generate("a cat", **PICTURE, seed=3),
        s.generate("a cat", **PICTURE, latents=LATENTS),
    ],
    "head_scores": lambda s, d: vars(s.head_scores([IMAGE], TEXTS, [(0, 1), (0, 0)])),
    "head_weights": lambda s, d: s.with_config(**FULL).head_weights(IMAGE, TEXTS[1], noise=NOISE),
    "calibrate": lambda s, d: s.calibrate([item(number) for number in range(4)], maps=("logits",)),
    "calibration": lambda s, d: s.with_calibration(made(s)).calibration,
    "has_probability": lambda s, d: s.with_calibration(made(s)).has_probability,
    "with_calibration": lambda s, d: [s.with_calibration(made(s)), s.with_calibration(None)],
    "probability": lambda s, d: s.with_calibration(made(s)).probability(IMAGE, TEXTS[1]),
    "probability_matrix": lambda s, d: s.with_calibration(made(s)).probability_matrix([IMAGE], TEXTS),
    "load_deltas": loaded,
    "deltas": lambda s, d: s.with_deltas(d).deltas,
    "unload_deltas": unloaded,
    "with_deltas": lambda s, d: [s.with_deltas(d, merge=merge) for merge in (True, False)],
    "config": lambda s, d: s.config.to_dict(),
    "with_config": lambda s, d: [s.with_config(**FULL), s.with_config("paper", noise_levels=[0.5])],
    "model_id": lambda s, d: s.model_id,
    "device": lambda s, d: s.device,
    "dtype": lambda s, d: s.dtype,
    "num_parameters": lambda s, d: s.num_parameters,
    "info": lambda s, d: s.info(),
    "describe": lambda s, d: s.with_deltas(d).describe(),
    "layers": lambda s, d: s.with_deltas(d).layers,
    "memory": lambda s, d: s.memory()["weights"],
    "close": lambda s, d: closed(s),
}


def fitted(trainer: Trainer) -> Trainer:
    trainer.fit([item(0), item(1), item(2)], [item(3)], batch_size=2, progress=False)
    return trainer


def saved(trainer: Trainer, folder: Path) -> Any:
    trainer.save(folder / "deltas.safetensors")
    trainer.export_lora(folder / "lora", "peft", 2)
    scorer = trainer.scorer.with_deltas(None)
    found = []
    for path in ("deltas.safetensors", "lora"):
        scorer.load_deltas(folder / path, strict=False)
        found.append(scorer.deltas)
    return found


# Every public name of a Trainer.
TRAINER: dict[str, Callable[[Trainer, Path], Any]] = {
    "fit": lambda t, p: fitted(t).deltas,
    "scorer": lambda t, p: fitted(t).scorer,
    "deltas": lambda t, p: t.deltas,
    "history": lambda t, p: list(fitted(t).history),
    "options": lambda t, p: t.options,
    "config": lambda t, p: t.config.to_dict(),
    "steps": lambda t, p: fitted(t).steps,
    "num_parameters": lambda t, p: t.num_parameters,
    "save": saved,
    "export_lora": saved,
    "card": lambda t, p: len(t.card()) > 0,
    "about": lambda t, p: t.about(),
}


def public(kind: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(kind) if not name.startswith("_")}


def test_every_public_name_is_tried() -> None:
    assert public(Scorer) == set(SCORER)
    assert public(Trainer) == set(TRAINER)


@pytest.fixture(scope="module")
def expected(tiny: Path, deltas: Deltas) -> dict[str, Any]:
    return {name: bits(call(cold(tiny), deltas)) for name, call in SCORER.items()}


@pytest.fixture(scope="module")
def after(tiny: Path) -> Any:
    """What a scorer does that needs gradients."""
    return with_gradients(cold(tiny))


def with_gradients(scorer: Scorer) -> Any:
    return bits([scorer.with_config(**FULL).score(IMAGE, TEXTS[1]), fitted(trainer_of(scorer)).deltas])


@pytest.mark.parametrize("method", SCORER)
@pytest.mark.parametrize("name", ["inference_mode", "autocast"])
def test_a_scorer_that_is_first_used_there(
    tiny: Path, deltas: Deltas, expected: dict[str, Any], after: Any, name: str, method: str
) -> None:
    """What is made on first use and kept must serve outside as well, where gradients are asked for."""
    scorer = cold(tiny)
    with CONTEXTS[name]():
        before = state()
        found = SCORER[method](scorer, deltas)
        assert state() == before
        found = bits(found)
    assert found == expected[method]
    if method != "close":
        scorer.unload_deltas()
        assert with_gradients(scorer) == after


@context
def test_a_scorer_that_is_made_there(
    tiny: Path, deltas: Deltas, expected: dict[str, Any], after: Any, name: str
) -> None:
    """One scorer for all methods, loaded under the caller's state."""
    with CONTEXTS[name]():
        before = state()
        scorer = cold(tiny)
        for method, call in SCORER.items():
            assert bits(call(scorer.with_config(), deltas)) == expected[method], method
        assert state() == before
    assert with_gradients(scorer) == after


@context
def test_a_scorer_that_was_used_before(
    tiny: Path, deltas: Deltas, expected: dict[str, Any], name: str
) -> None:
    scorer = cold(tiny)
    SCORER["score"](scorer, deltas)
    with CONTEXTS[name]():
        for method in ("score", "observe", "explain", "head_weights", "generate"):
            assert bits(SCORER[method](scorer, deltas)) == expected[method], method
    assert bits(SCORER["score"](scorer, deltas)) == expected["score"]


@pytest.fixture(scope="module")
def trained(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("trained")
    return {name: bits(call(trainer_of(cold(tiny)), folder)) for name, call in TRAINER.items()}


@context
def test_training(tiny: Path, tmp_path: Path, trained: dict[str, Any], name: str) -> None:
    with CONTEXTS[name]():
        before = state()
        found = {method: bits(call(trainer_of(cold(tiny)), tmp_path)) for method, call in TRAINER.items()}
        assert state() == before
    assert found == trained


@context
def test_evaluation_and_shards(tiny: Path, tmp_path: Path, name: str) -> None:
    scorer = cold(tiny)
    tars(tmp_path / "in", 1, 3)
    items = [item(0), item(1)]

    def run(folder: Path) -> Any:
        report = discffusion.evaluate(scorer, items, progress=False)
        discffusion.score_shards(tmp_path / "in", folder, scorer)
        return bits([[record.scores for record in report.records], [row["score"] for row in rows(folder)]])

    with CONTEXTS[name]():
        found = run(tmp_path / "there")
    assert found == run(tmp_path / "here")


def test_callbacks_run_in_the_callers_state(tiny: Path) -> None:
    """And may change it, as a function that is called elsewhere could."""
    seen: list[Any] = []

    def told(done: int, total: int) -> None:
        seen.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
        torch.set_grad_enabled(False)

    scorer = cold(tiny, batch_size=1)
    expected = scorer.score(IMAGE, TEXTS[0])
    with torch.enable_grad():
        assert scorer.score(IMAGE, TEXTS[0], progress=told).hex() == expected.hex()
        assert not torch.is_grad_enabled()
    assert seen[0] == (True, False) and seen[-1] == (False, False)
    with torch.inference_mode():
        scorer.score(IMAGE, TEXTS[0], progress=told)
    assert seen[-1][1]


def test_random_numbers_are_the_callers(tiny: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    scorer = cold(tiny)
    SCORER["generate"](scorer, None)  # type: ignore[arg-type]
    fitted(trainer_of(scorer))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_profiler_still_sees_the_core(tiny: Path) -> None:
    scorer = cold(tiny)
    expected = scorer.score(IMAGE, TEXTS[0])
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        assert scorer.score(IMAGE, TEXTS[0]) == expected
    assert any("softmax" in event.key or "attention" in event.key for event in profile.key_averages())


def test_a_picture_is_written_the_same(tiny: Path) -> None:
    """Images that Pillow holds are read before the core begins."""
    stream = io.BytesIO()
    PIL.Image.fromarray(IMAGE).save(stream, "PNG")
    scorer = cold(tiny)
    with torch.inference_mode():
        assert scorer.score(stream.getvalue(), TEXTS[0]) == scorer.score(IMAGE, TEXTS[0])
