"""A Scorer in other hands: copied, pickled, sent to another process. The numbers stay the same, to the bit."""

from __future__ import annotations

import copy
import inspect
import multiprocessing
import os
import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tests.python.test_hub import COMMIT, into_cache

from discffusion import CheckpointError, CopyError, Deltas, DiscffusionError, Scorer, Trainer
from discffusion.scorer import copying

TEXT = "a red circle"


@pytest.fixture
def deltas(scorer: Scorer) -> Deltas:
    """Low-rank deltas, large enough to change a score."""
    rng = np.random.default_rng(0)
    made = Trainer(scorer, rank=2).deltas
    arrays = {
        name: rng.normal(0, 0.3, array.shape).astype(np.float32) for name, array in made.arrays().items()
    }
    return Deltas.from_arrays(arrays, scorer)


def scored(scorer: Scorer, picture: Any) -> float:
    return float(scorer.score(picture, TEXT))


def test_a_copy_shares_the_weights(scorer: Scorer, picture: np.ndarray) -> None:
    for other in (copy.copy(scorer), copy.deepcopy(scorer), copy.deepcopy({"metric": [scorer]})["metric"][0]):
        assert other is not scorer
        assert other._model is scorer._model
        assert other.config == scorer.config
        assert scored(other, picture) == scored(scorer, picture)


def test_a_copy_goes_its_own_way(scorer: Scorer, deltas: Deltas, picture: np.ndarray) -> None:
    before = scored(scorer, picture)
    other = copy.deepcopy(scorer)
    other.load_deltas(deltas)
    assert scored(other, picture) != before
    assert scorer.deltas is None
    assert scored(scorer, picture) == before
    other.close()
    assert scored(scorer, picture) == before


def test_one_object_stays_one_in_a_deep_copy(scorer: Scorer) -> None:
    first, second = copy.deepcopy([scorer, scorer])
    assert first is second


def test_deltas_are_shared_by_copies(deltas: Deltas) -> None:
    assert copy.deepcopy([deltas])[0] is deltas
    assert copy.copy(deltas) is deltas


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_gives_the_same_scores(scorer: Scorer, picture: np.ndarray, protocol: int) -> None:
    data = pickle.dumps(scorer, protocol)
    assert len(data) < 4000  # no weights are in it
    other = pickle.loads(data)
    assert scored(other, picture) == scored(scorer, picture)
    assert (other.config, other.model_id) == (scorer.config, scorer.model_id)
    assert other.describe() == scorer.describe()


def test_a_pickle_holds_configuration_and_deltas(scorer: Scorer, deltas: Deltas, picture: np.ndarray) -> None:
    changed = scorer.with_config(steps=1, seed=7, lambda_=3.0).with_deltas(deltas, merge=False)
    other = pickle.loads(pickle.dumps(changed))
    assert other.config == changed.config
    assert other.deltas is not None
    assert other.deltas.digest() == deltas.digest()
    assert (
        scored(other, picture)
        == scored(changed, picture)
        != scored(scorer.with_config(changed.config), picture)
    )
    assert other._state.merge is False
    other.unload_deltas()
    assert scored(other, picture) == scored(scorer.with_config(changed.config), picture)


def test_a_process_opens_the_model_once(scorer: Scorer) -> None:
    data = pickle.dumps(scorer)
    first, second = pickle.loads(data), pickle.loads(data)
    assert first._model is second._model
    first.close()  # and then nothing but the other one holds it
    assert not copying._last
    assert second.device == "cpu"


def test_a_pickle_is_read_in_another_folder(
    tiny: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny.parent)
    with Scorer(tiny.name, device="cpu", steps=1) as scorer:
        expected, data = scored(scorer, picture), pickle.dumps(scorer)
    monkeypatch.chdir("/")
    with pickle.loads(data) as other:
        assert other.model_id == tiny.name
        assert scored(other, picture) == expected


def test_a_pickle_of_a_hub_model_names_the_commit(tiny: Path, tmp_path: Path, picture: np.ndarray) -> None:
    folder = into_cache(tmp_path, "owner/model", tiny)
    with Scorer("owner/model", cache_dir=tmp_path, token="hf_secret", steps=1) as scorer:
        expected, data = scored(scorer, picture), pickle.dumps(scorer)
        assert b"hf_secret" not in data
        assert COMMIT.encode() in data
    # main moves on to another model; the pickle's is the commit that was scored with
    (folder.parent.parent / "refs" / "main").write_text("f" * 40)
    with pickle.loads(data) as other:
        assert other.model_id == "owner/model"
        assert scored(other, picture) == expected


def test_another_model_in_its_place_is_refused(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "model")
    with Scorer(tmp_path / "model", device="cpu") as scorer:
        data = pickle.dumps(scorer)
    file = tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    (name,) = (
        name for name in weights if name.startswith("mid_block") and name.endswith("attn2.to_k.weight")
    )
    save_file({**weights, name: weights[name] * 1.5}, file.with_name("new"))
    file.with_name("new").rename(file)
    with pytest.raises(CheckpointError, match="another model"):
        pickle.loads(data)


def test_every_argument_is_in_the_pickle(scorer: Scorer) -> None:
    arguments = set(inspect.signature(Scorer.__init__).parameters) - {
        "self",
        "device",
        "dtype",
        "config",
        "fields",
    }
    assert set(scorer._source) == arguments


class Sub(Scorer):
    """A user's, with something of its own."""

    note = ""


def test_a_subclass_keeps_its_own(tiny: Path) -> None:
    with Sub(tiny, device="cpu") as scorer:
        scorer.note = ["mine"]  # type: ignore[assignment]
        for other in (pickle.loads(pickle.dumps(scorer)), copy.deepcopy(scorer)):
            assert type(other) is Sub
            assert other.note == ["mine"]
            assert other.note is not scorer.note
        assert copy.copy(scorer).note is scorer.note
        assert scorer.with_config(steps=1).note == ["mine"]


def test_a_closed_scorer(tiny: Path) -> None:
    scorer = Scorer(tiny, device="cpu")
    scorer.close()
    assert "closed" in repr(copy.copy(scorer))
    with pytest.raises(CopyError, match="closed"):
        pickle.dumps(scorer)
    with pytest.raises(DiscffusionError, match="closed"):
        scorer.with_config()


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy], ids=lambda f: f.__name__)
def test_what_cannot_be_sent_says_what_can(
    scorer: Scorer, deltas: Deltas, picture: np.ndarray, copied: Any
) -> None:
    prepared = scorer._prepare([picture], [TEXT], None)
    trainer = Trainer(scorer, rank=2)
    refused = [
        (prepared, "images and texts"),
        (scorer._model, r"discffusion\.Scorer"),
        (trainer._core, r"Trainer\(Scorer"),
    ]
    if copied is not copy.copy:  # a shallow copy of a Trainer is another name for what it holds
        refused.append((trainer, r"Trainer\(Scorer"))
    if copied is pickle.dumps:
        refused.append((deltas, r"save\(path\)"))
    for value, remedy in refused:
        with pytest.raises(CopyError, match=remedy) as caught:
            copied(value)
        assert isinstance(caught.value, TypeError)


def work(scorer: Scorer, item: tuple[np.ndarray, str]) -> tuple[int, float]:
    return os.getpid(), float(scorer.score(*item))


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_pool_of_processes(scorer: Scorer, picture: np.ndarray, method: str) -> None:
    items = [(picture, TEXT), (picture[::-1].copy(), "a blue square")]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        found = list(pool.map(partial(work, scorer), items, chunksize=1))
    assert [score for _, score in found] == [scorer.score(*item) for item in items]
    assert os.getpid() not in {pid for pid, _ in found}


def test_joblib(scorer: Scorer, picture: np.ndarray) -> None:
    joblib = pytest.importorskip("joblib")
    found = joblib.Parallel(n_jobs=2, backend="loky")(
        joblib.delayed(work)(scorer, (picture, TEXT)) for _ in range(2)
    )
    assert [score for _, score in found] == [scored(scorer, picture)] * 2


def test_datasets_map_in_two_processes(scorer: Scorer, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"text": ["a red circle", "a blue square", "a cross", "a diamond"]})
    plain = np.full((16, 16, 3), 200, np.uint8)
    found = rows.map(lambda row: {"score": scorer.score(plain, row["text"])}, num_proc=2)
    assert found["score"][:] == [scorer.score(plain, text) for text in rows["text"]]
