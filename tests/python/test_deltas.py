"""Deltas: files, what they tell, and scorers with and without them."""

from __future__ import annotations

import pickle
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.python.training_items import SCORE, Drawn, item, threads, trainer_of

from discffusion import ConfigError, Deltas, DeltasError, DiscffusionError, Scorer

TEXT = "a red circle at night"
LORA_KEY = "mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora"


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with threads(1):
        yield


@pytest.fixture(scope="module")
def plain(scorer: Scorer) -> Scorer:
    return scorer.with_config(**SCORE)


@pytest.fixture(scope="module")
def dense(plain: Scorer) -> Deltas:
    trainer = trainer_of(plain, learning_rate=0.02)
    trainer.fit(Drawn(2), epochs=2)
    return trainer.deltas


@pytest.fixture(scope="module")
def low_rank(plain: Scorer) -> Deltas:
    trainer = trainer_of(plain, learning_rate=0.02, rank=3, layers="all")
    trainer.fit(Drawn(2), epochs=2)
    return trainer.deltas


def score(scorer: Scorer) -> float:
    return scorer.score(item(0).images[0], TEXT)


@pytest.mark.parametrize("kind", ["dense", "low_rank"])
def test_files_keep_everything(
    kind: str, plain: Scorer, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    deltas: Deltas = request.getfixturevalue(kind)
    path = tmp_path / "deltas.safetensors"
    deltas.save(path, {"note": ["a", 1]})
    loaded = Deltas.load(path, plain)
    assert loaded.digest() == deltas.digest()
    assert loaded.head_weights == deltas.head_weights
    assert loaded.head_weights is not None
    assert loaded.metadata == {**deltas.metadata, "note": ["a", 1]}
    assert (loaded.rank, loaded.layers, loaded.entries) == (deltas.rank, deltas.layers, deltas.entries)
    assert [child.name for child in tmp_path.iterdir()] == ["deltas.safetensors"]
    again = Deltas.load(tmp_path, plain)  # the folder
    assert again.digest() == deltas.digest()


def test_loading_and_unloading(plain: Scorer, dense: Deltas, low_rank: Deltas, tmp_path: Path) -> None:
    scorer = plain.with_config()
    bare = score(scorer)
    dense.save(tmp_path / "dense.safetensors")
    scorer.load_deltas(tmp_path / "dense.safetensors")
    assert scorer.deltas is not None
    assert repr(scorer.deltas) in repr(scorer)
    changed = score(scorer)
    assert changed != bare
    assert score(scorer.with_config(seed=0)) == changed  # deltas stay when the configuration changes
    scorer.load_deltas(low_rank)  # in place of the others
    assert score(scorer) not in (bare, changed)
    scorer.load_deltas(str(tmp_path / "dense.safetensors"))
    assert score(scorer) == changed
    scorer.unload_deltas()
    assert scorer.deltas is None
    assert score(scorer) == bare
    scorer.unload_deltas()
    assert score(plain) == bare
    assert plain.deltas is None


def test_merged_or_added(plain: Scorer, dense: Deltas, low_rank: Deltas) -> None:
    for deltas in (dense, low_rank):
        scores = [score(plain.with_deltas(deltas, merge=merge)) for merge in (True, False, None)]
        assert scores[2] == scores[0]  # the default in float32
        assert scores[1] == pytest.approx(scores[0], rel=1e-4)
        assert scores[0] != pytest.approx(score(plain), rel=1e-4)
    with pytest.raises(ConfigError, match="merge is 'yes'"):
        plain.with_deltas(dense, merge="yes")  # type: ignore[arg-type]


def test_what_deltas_tell(dense: Deltas, low_rank: Deltas, plain: Scorer) -> None:
    assert repr(dense) == f"Deltas(dense, {len(dense.layers)} layers, {dense.num_parameters:,} parameters)"
    assert repr(low_rank).startswith("Deltas(rank 3, 16 layers")
    assert dense.rank is None
    assert low_rank.rank == 3
    assert all(layer.startswith("up.") for layer in dense.layers)
    assert dense.num_parameters == sum(array.size for array in dense.arrays().values())
    info = low_rank.info()
    assert info["rank"] == 3
    assert info["metadata"]["training"]["steps"] == 4
    assert {entry["attention"] for entry in info["entries"]} == {"cross"}
    assert [entry["layer"] for entry in info["entries"]] == [entry["site"] for entry in info["entries"]]
    assert {entry["layer"] for entry in info["entries"]} == set(low_rank.layers)


@pytest.mark.parametrize("kind", ["dense", "low_rank"])
def test_sizes(kind: str, plain: Scorer, tiny: Path, request: pytest.FixtureRequest) -> None:
    deltas: Deltas = request.getfixturevalue(kind)
    products, norms, relative = deltas.products(), deltas.norms(), deltas.norms(relative_to=plain)
    weights = load_file(tiny / "unet" / "diffusion_pytorch_model.safetensors")
    for entry in deltas.entries:
        name = entry["name"]
        assert list(products[name].shape) == entry["shape"]
        size = float(np.linalg.norm(products[name]))
        assert norms[name] == pytest.approx(size, rel=1e-5)
        assert relative[name] == pytest.approx(size / float(weights[f"{name}.weight"].norm()), rel=1e-5)


def test_sparsity(plain: Scorer) -> None:
    module = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    delta = np.zeros((128, 32), np.float32)
    delta[0] = 1.0
    delta[1] = 0.01
    deltas = Deltas.from_arrays({f"{module}.delta": delta}, plain)
    assert deltas.sparsity() == {module: 126 / 128}
    assert deltas.sparsity(0.01) == {module: 127 / 128}
    assert deltas.sparsity(0) == {module: 126 / 128}
    with pytest.raises(ConfigError, match="threshold is 1"):
        deltas.sparsity(1)
    counts, edges = deltas.histogram(4)
    assert counts.tolist() == [0, 0, 32 * 127, 32]
    assert edges.tolist() == [-1, -0.5, 0, 0.5, 1]
    counts, edges = deltas.histogram(2, limit=0.005)  # what lies beyond counts in the outer intervals
    assert counts.tolist() == [0, 128 * 32]


def test_histogram(low_rank: Deltas) -> None:
    products = low_rank.products()
    counts, edges = low_rank.histogram(50)
    everything = np.concatenate([p.ravel() for p in products.values()])
    np.testing.assert_array_equal(counts, np.histogram(everything, edges)[0])
    assert counts.sum() == everything.size
    assert edges[-1] == pytest.approx(np.abs(everything).max())
    of_stage = low_rank.histogram(10, layers="mid")[0].sum()
    assert of_stage == sum(p.size for name, p in products.items() if name.startswith("mid_block"))
    of_layer = low_rank.histogram(10, layers="up.1.0")[0].sum()
    assert 0 < of_layer < counts.sum()
    for wrong in ({"bins": 0}, {"bins": 2.5}, {"layers": "up.1"}, {"layers": "attic"}):
        if wrong != {"layers": "up.1"}:
            with pytest.raises(ConfigError, match=next(iter(wrong))):
                low_rank.histogram(**wrong)  # type: ignore[arg-type]
    assert low_rank.histogram(10, layers="up.1")[0].sum() == sum(
        p.size for name, p in products.items() if name.startswith("up_blocks.1.")
    )


def test_from_arrays(plain: Scorer, dense: Deltas) -> None:
    arrays = dense.arrays()
    assert Deltas.from_arrays(arrays, plain).digest() == dense.digest()
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    made = Deltas.from_arrays(tensors, plain, {"note": {"a": 1}})
    assert made.digest() == dense.digest()
    assert made.metadata["note"] == {"a": 1}
    for wrong, error in (
        ({}, DeltasError),
        ({"conv_in.delta": np.zeros((2, 2), np.float32)}, DeltasError),
        ({name: array[1:] for name, array in arrays.items()}, DeltasError),
        ({name: array.astype(complex) for name, array in arrays.items()}, DeltasError),
        ({name: array * np.nan for name, array in arrays.items()}, DeltasError),
    ):
        with pytest.raises(error):
            Deltas.from_arrays(wrong, plain)
    with pytest.raises(ConfigError, match="plain data"):
        Deltas.from_arrays(arrays, plain, {"note": object()})


def authors_lora(dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(3)
    down, up = torch.randn(4, 32, generator=draw), torch.randn(128, 4, generator=draw)
    return {f"{LORA_KEY}.down.weight": down.to(dtype), f"{LORA_KEY}.up.weight": up.to(dtype)}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_bin_files(zipped: bool, dtype: torch.dtype, plain: Scorer, tmp_path: Path) -> None:
    tensors = authors_lora(dtype)
    path = tmp_path / "pytorch_lora_weights.bin"
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    deltas = Deltas.load(tmp_path, plain)
    (product,) = deltas.products().values()
    down, up = (tensor.float() for tensor in tensors.values())
    np.testing.assert_allclose(product, (up @ down).numpy(), rtol=1e-5, atol=1e-5)
    safe = tmp_path / "lora.safetensors"
    save_file(authors_lora(), safe)
    if dtype == torch.float32:
        assert Deltas.load(safe, plain).digest() == deltas.digest()
        safe.unlink()
        path.rename(safe)  # what a file is, not what it is called
        assert Deltas.load(safe, plain).digest() == deltas.digest()


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def _data(content: bytes) -> Callable[[Path, bytes], None]:
    return lambda path, good: (path.write_bytes(content), None)[1]


def _cut(share: float) -> Callable[[Path, bytes], None]:
    return lambda path, good: (path.write_bytes(good[: int(len(good) * share)]), None)[1]


def _flip(place: float) -> Callable[[Path, bytes], None]:
    def spoil(path: Path, good: bytes) -> None:
        data = bytearray(good)
        data[int(len(data) * place)] ^= 4
        path.write_bytes(data)

    return spoil


def _saved(tensors: dict[str, Any]) -> Callable[[Path, bytes], None]:
    return lambda path, good: save_file(tensors, path)


def _pickled(content: Any) -> Callable[[Path, bytes], None]:
    return lambda path, good: (torch.save(content, path), None)[1]


def _header(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


_MODULE = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"

# what becomes of a good file of dense deltas
BAD_FILES: dict[str, Callable[[Path, bytes], None]] = {
    "missing": lambda path, good: None,
    "an empty folder": lambda path, good: path.mkdir(),
    "a device": lambda path, good: path.symlink_to("/dev/zero"),
    "empty": _data(b""),
    "seven bytes": _cut(7 / 1e9),
    "half a header": _cut(0.01),
    "half": _cut(0.5),
    "a byte short": lambda path, good: (path.write_bytes(good[:-1]), None)[1],
    "a byte too long": lambda path, good: (path.write_bytes(good + b"x"), None)[1],
    "a flipped bit of the length": _flip(0),
    "a flipped bit of the header": _flip(0.004),
    "a flipped bit of the numbers": _flip(0.7),
    "an absurd header": _data(b"\xff" * 64),
    "a header that is no JSON": _data(_header(b"{not json}")),
    "a header without tensors": _data(_header(b"{}")),
    "zeros": _data(bytes(1000)),
    "noise": _data(random.Random(5).randbytes(5000)),
    "text": _data(b"deltas\n" * 100),
    "another format": lambda path, good: (
        path.write_bytes(good.replace(b'discffusion.format":"1"', b'discffusion.format":"9"')),
        None,
    )[1],
    "a pickle that runs code": lambda path, good: (
        path.write_bytes(pickle.dumps({"a": Hostile(path.with_name("ran"))})),
        None,
    )[1],
    "a zip that runs code": lambda path, good: torch.save({"a": Hostile(path.with_name("ran"))}, path),
    "a broken zip": _data(b"PK\x03\x04" + bytes(100)),
    "a pickled list": _pickled([torch.zeros(2)]),
    "a pickled mapping of numbers": _pickled({LORA_KEY: 3}),
    "a pickled nothing": _pickled({}),
    "tensors of something else": _saved({"encoder.weight": torch.zeros(2, 2)}),
    "one key of something else": _saved({**authors_lora(), "text_encoder.layer.weight": torch.zeros(2)}),
    "half a pair": _saved(dict(list(authors_lora().items())[:1])),
    "a pair that does not fit": _saved(
        {name: tensor.repeat(2, 2) for name, tensor in authors_lora().items()}
    ),
    "numbers that are none": _saved({name: tensor * float("nan") for name, tensor in authors_lora().items()}),
    "ours without its checksum": _saved({f"{_MODULE}.delta": torch.zeros(128, 32)}),
    "the model itself": lambda path, good: save_file({"conv_in.weight": torch.zeros(32, 4, 3, 3)}, path),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(name: str, plain: Scorer, dense: Deltas, tmp_path: Path) -> None:
    good = tmp_path / "good.safetensors"
    dense.save(good)
    path = tmp_path / "odd file"
    BAD_FILES[name](path, good.read_bytes())
    scorer = plain.with_deltas(dense)
    before = score(scorer)
    with pytest.raises(DeltasError, match="odd file") as caught:
        scorer.load_deltas(path)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, DiscffusionError)
    assert "internal error" not in str(caught.value)
    assert score(scorer) == before  # as it was
    assert scorer.deltas is dense
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("given", [3, None, b"\xff"], ids=str)
def test_paths_that_are_none(given: Any, plain: Scorer) -> None:
    with pytest.raises(DeltasError):
        plain.with_config().load_deltas(given)


def test_a_training_state_is_no_deltas(plain: Scorer, tmp_path: Path) -> None:
    trainer_of(plain).fit(Drawn(1), checkpoint_dir=tmp_path)
    with pytest.raises(DeltasError, match="step-00000001"):
        Deltas.load(tmp_path / "step-00000001.safetensors", plain)


def test_deltas_of_another_model(plain: Scorer, dense: Deltas, tmp_path: Path) -> None:
    path = tmp_path / "deltas.safetensors"
    dense.save(path)
    with Scorer() as pocket:
        for given in (path, dense):
            for strict in (True, False):
                with pytest.raises(DeltasError, match="another architecture"):
                    pocket.load_deltas(given, strict=strict)
        assert pocket.deltas is None


def test_deltas_of_other_weights(dense: Deltas, tmp_path: Path) -> None:
    from tests.fixtures.make_checkpoint import write_checkpoint

    path = tmp_path / "deltas.safetensors"
    dense.save(path)
    with Scorer(write_checkpoint(tmp_path / "model", "sd15", "tiny", seed=1), device="cpu", **SCORE) as other:
        with pytest.raises(DeltasError, match="other weights .* strict=False"):
            other.load_deltas(path)
        bare = score(other)
        other.load_deltas(path, strict=False)
        assert score(other) != bare


def test_writing_where_it_cannot_be(dense: Deltas, tmp_path: Path) -> None:
    with pytest.raises(DeltasError, match="no/such"):
        dense.save(tmp_path / "no/such/deltas.safetensors")
    with pytest.raises(DeltasError, match="no/such"):
        dense.export_lora(tmp_path / "no/such/lora.safetensors")
    with pytest.raises(ConfigError, match="'onnx'"):
        dense.export_lora(tmp_path / "lora", format="onnx")
    with pytest.raises(ConfigError, match="plain data"):
        dense.save(tmp_path / "deltas.safetensors", {"when": object()})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", ["diffusers", "peft"])
def test_exports_come_back(
    format: str, plain: Scorer, low_rank: Deltas, dense: Deltas, tmp_path: Path
) -> None:
    path = tmp_path / ("lora" if format == "peft" else "pytorch_lora_weights.safetensors")
    assert low_rank.export_lora(path, format) == 0
    back = Deltas.load(path, plain)
    for name, product in low_rank.products().items():
        np.testing.assert_allclose(back.products()[name], product, rtol=1e-5, atol=1e-7)
    assert dense.export_lora(path, format) < 1e-5
    error = dense.export_lora(path, format, rank=2)
    assert 1e-3 < error < 1
    assert Deltas.load(path, plain).rank == 2


def test_head_weights(plain: Scorer, low_rank: Deltas) -> None:
    picture = item(0).images[0]
    plain = plain.with_config(map="probs", attribution="local")
    weights = plain.head_weights(picture, TEXT)
    assert list(weights) == ["up.3.1", "up.3.2"]
    for values in weights.values():
        assert values.shape == (1, 4)
        assert values.dtype == np.float32
        assert (values >= 0).all()
        assert values.mean() == pytest.approx(1, rel=1e-5)
        assert len(np.unique(values)) == 4
    full = plain.with_config(attribution="full").head_weights(picture, TEXT)
    assert not np.allclose(full["up.3.1"], weights["up.3.1"])
    changed = plain.with_deltas(low_rank).head_weights(picture, TEXT)
    assert not np.array_equal(changed["up.3.1"], weights["up.3.1"])
    noise = np.random.default_rng(0).standard_normal((1, 4, 8, 8), dtype=np.float32)
    assert not np.array_equal(plain.head_weights(picture, TEXT, noise=noise)["up.3.1"], weights["up.3.1"])
    for wrong in ([picture, picture], picture):
        with pytest.raises(ConfigError, match="one image and one text"):
            plain.head_weights(wrong, [TEXT, TEXT])  # type: ignore[arg-type]


def test_learned_heads(plain: Scorer, low_rank: Deltas) -> None:
    learned = plain.with_deltas(low_rank).with_config(heads="learned")
    mean = plain.with_deltas(low_rank).with_config(heads="mean")
    assert score(learned) != score(mean)
    with pytest.raises(ConfigError, match="learned"):
        score(plain.with_config(heads="learned"))
